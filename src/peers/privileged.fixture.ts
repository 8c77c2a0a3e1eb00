/**
 * Guests that try privileged instructions one case at a time and print what came of each on COM1, so that the same
 * image can be laid side by side on our machine and on the peers.
 *
 * Every case starts from the same state (tables, segments, flags), runs at CPL 0 or 3 and ends by a trap: the exception
 * that it raises, or INT 30H. The handler of all vectors prints one line and goes on to the next case.
 */
import type { Assembler } from '../kernel/assembler.ts';
import { flatImage, initializeSerial } from './flat-image.fixture.ts';
import { assemble } from './text-assembler.fixture.ts';

export type GuestBits = 32 | 64;

/** Where things are; every selector and address may be used by cases as a symbol. */
export const places = {
  code0: 0x08,
  data0: 0x10,
  code3: 0x1b,
  data3: 0x23,
  /** 64-bit code of DPL 3; outside IA-32e mode a conforming 32-bit code segment of DPL 0. */
  extra: 0x2b,
  tss: 0x30,
  ldt: 0x40,
  /** Four slots of 16 bytes, empty unless a case fills them. */
  slot0: 0x50,
  slot1: 0x60,
  slot2: 0x70,
  /** 32-bit code of DPL 0 whatever the guest; 16-bit code and data of limit FFFFH. */
  code0x32: 0x80,
  code16: 0x88,
  data16: 0x90,
  slot3: 0xa0,
  /** Free memory. */
  scratch: 0x30_0000,
  kernel_stack: 0x20_8000,
  user_stack: 0x20_a000,
  print_stack: 0x20_c000,
  tss_base: 0x20_d000,
  idt_base: 0x20_e000,
  /** PML4, PDPT and the directory of the first GByte, of 2-MByte pages, in a 64-bit guest. */
  page_tables: 0x21_0000,
} as const;
const GDT_LIMIT = 0xaf;
const VECTORS = 0x40;
/** Vectors that push an error code. */
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17]);

export interface Case {
  readonly name: string;
  /** Default 0. */
  readonly cpl?: 0 | 3;
  /** Code width of the body, default the guest's. */
  readonly width?: 32 | 64 | undefined;
  /** Runs before, at CPL 0 and in the guest's width. */
  readonly setup?: string;
  /** General registers are 0 but for EBP, the number of the turn, and ESP. */
  readonly body: string;
  /** Default 1. In `setup`, [turn] is the number of the turn; the dword at [watched] is printed after the case. */
  readonly turns?: number;
}

/** Code that fills GDT slot `at` with a segment descriptor; `flags` are G D L AVL. */
export function segment(
  at: number | string,
  d: { base?: number; limit?: number; access: number; flags?: number; upper?: number },
): string {
  const [low, high] = descriptor(d.base ?? 0, d.limit ?? 0xf_ffff, d.access, d.flags ?? 0xc);
  return `${fill(at, low, high)}${d.upper === undefined ? '' : fill(at, undefined, undefined, d.upper)}`;
}

/** Code that fills GDT slot `at` with a gate to `selector:target`. */
export function gate(
  at: number | string,
  g: { selector: number; target: string; access: number; parameters?: number },
): string {
  const slot = typeof at === 'string' ? places[at as keyof typeof places] : at;
  return `
    mov eax, ${g.target}
    mov word [gdt+${slot}], ax
    mov word [gdt+${slot + 2}], ${g.selector}
    mov word [gdt+${slot + 4}], ${(g.access << 8) | (g.parameters ?? 0)}
    shr eax, 16
    mov word [gdt+${slot + 6}], ax
  `;
}

function fill(at: number | string, ...dwords: (number | undefined)[]): string {
  const slot = typeof at === 'string' ? places[at as keyof typeof places] : at;
  return dwords
    .map((value, i) => (value === undefined ? '' : `mov dword [gdt+${slot + 4 * i}], ${value}\n`))
    .join('');
}

/** The low and high dword of a segment descriptor. */
export function descriptor(base: number, limit: number, access: number, flags: number): [number, number] {
  return [
    (((base & 0xffff) << 16) | (limit & 0xffff)) >>> 0,
    ((base & 0xff00_0000) | (flags << 20) | (limit & 0xf_0000) | (access << 8) | ((base >>> 16) & 0xff)) >>>
      0,
  ];
}

function descriptors(bits: GuestBits): string {
  const long = bits === 64;
  const dwords = [
    0, 0,
    ...descriptor(0, 0xf_ffff, 0x9b, long ? 0xa : 0xc),
    ...descriptor(0, 0xf_ffff, 0x93, 0xc),
    ...descriptor(0, 0xf_ffff, 0xfb, 0xc),
    ...descriptor(0, 0xf_ffff, 0xf3, 0xc),
    ...(long ? descriptor(0, 0xf_ffff, 0xfb, 0xa) : descriptor(0, 0xf_ffff, 0x9f, 0xc)),
    ...descriptor(places.tss_base, 0x2ff, 0x89, 0), 0, 0,
    ...descriptor(places.scratch, 0xfff, 0x82, 0), 0, 0,
    ...Array.from({ length: 12 }, () => 0),
    ...descriptor(0, 0xf_ffff, 0x9b, 0xc),
    ...descriptor(0, 0xffff, 0x9b, 0),
    ...descriptor(0, 0xffff, 0x93, 0),
    0, 0, 0, 0, 0, 0,
  ]; // biome-ignore format: one descriptor a line
  return `dd ${dwords.slice(0, (GDT_LIMIT + 1) / 4).join(', ')}\n`;
}

const PRINTING = `
putc:
  mov dword [putc_save], eax
  mov dword [putc_save+4], edx
  .wait:
  mov dx, 0x3fd
  in al, dx
  test al, 0x20
  jz .wait
  mov eax, dword [putc_save]
  mov dx, 0x3f8
  out dx, al
  mov edx, dword [putc_save+4]
  ret
hex:                        # EAX, without leading zeros, and a space
  mov ebx, eax
  mov ecx, 8
  .skip:
  cmp ecx, 1
  je .digit
  test ebx, 0xf0000000
  jnz .digit
  shl ebx, 4
  dec ecx
  jmp .skip
  .digit:
  rol ebx, 4
  mov eax, ebx
  and eax, 15
  cmp eax, 10
  jb .decimal
  add eax, 0x27
  .decimal:
  add eax, 0x30
  call putc
  dec ecx
  jnz .digit
  mov eax, 0x20
  call putc
  ret
`;

/** EFLAGS bits printed: VIP VIF AC VM RF NT IOPL DF IF TF ZF. ID is not: BIOS or loader may have left it set. */
const FLAGS = 0x1f_7740;

function handlers(bits: GuestBits): string {
  let text = 'align 16\nstubs:\n';
  for (let vector = 0; vector < VECTORS; vector++) {
    text += `align 16\n${WITH_ERROR.has(vector) ? '' : 'push 0\n'}push ${vector}\njmp common\n`;
  }
  const wide = bits === 64;
  const pushed = wide
    ? ['r15', 'r14', 'r13', 'r12', 'r11', 'r10', 'r9', 'r8', 'rdi', 'rsi', 'rbp', 'rbx', 'rdx', 'rcx', 'rax']
    : ['gs', 'fs', 'es', 'ds', 'edi', 'esi', 'ebp', 'ebx', 'edx', 'ecx', 'eax'];
  const slot = bits / 8;
  const at = wide ? 'rsi' : 'esi';
  const offset = (name: string) => slot * pushed.indexOf(name);
  const frame = slot * pushed.length;
  const print = (what: string) => `mov eax, ${what}\ncall hex\n`;
  const field = (from: number) => print(`dword [${at}+${from}]`);
  const halfword = (from: number) => `movzx eax, word [${at}+${from}]\ncall hex\n`;
  text += `
    common:
    cld
    ${[...pushed]
      .reverse()
      .map((name) => `push ${name}\n`)
      .join('')}
    mov ${at}, ${wide ? 'rsp' : 'esp'}
    mov eax, data0
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, print_stack
    ${print('dword [number]')}${print('dword [turn]')}
    ${field(frame)}${field(frame + slot)}${field(frame + 2 * slot)}${halfword(frame + 3 * slot)}
    mov eax, dword [${at}+${frame + 4 * slot}]
    and eax, ${FLAGS}
    call hex
  `;
  if (wide) {
    text += `${field(frame + 5 * slot)}${field(frame + 5 * slot + 4)}${halfword(frame + 6 * slot)}`;
    text += ['rax', 'rcx', 'rdx', 'rbx'].map((name) => field(offset(name))).join('');
    text += `${field(offset('rax') + 4)}mov rax, cr2\ncall hex\n`;
  } else {
    text += `
      lea eax, [esi+${frame + 5 * slot}]
      test byte [esi+${frame + 3 * slot}], 3
      jnz .outer
      test dword [esi+${frame + 4 * slot}], 0x20000
      jz .inner
      .outer:
      ${halfword(frame + 6 * slot)}
      mov eax, dword [esi+${frame + 5 * slot}]
      .inner:
      call hex
      test dword [esi+${frame + 4 * slot}], 0x20000
      jz .segments
      ${[7, 8, 9, 10].map((i) => halfword(frame + i * slot)).join('')}
      .segments:
      ${['gs', 'fs', 'es', 'ds'].map((name) => halfword(offset(name))).join('')}
      ${['eax', 'ecx', 'edx', 'ebx'].map((name) => field(offset(name))).join('')}
      mov eax, cr2
      call hex
    `;
  }
  return `${text}
    movzx eax, byte [gdt+${places.slot0 + 5}]
    call hex
    ${wide ? 'mov rsi, qword [watched]; mov eax, dword [rsi]' : 'mov esi, dword [watched]; mov eax, dword [esi]'}
    call hex
    mov eax, 13
    call putc
    mov eax, 10
    call putc
    jmp ${wide ? 'qword' : 'dword'} [resume]
  `;
}

/** Puts back what cases change. All general registers are lost. */
function resetRoutine(bits: GuestBits): string {
  const wide = bits === 64;
  const [di, size] = wide ? ['rdi', 16] : ['edi', 8];
  return `
    reset:
    cld
    mov eax, data0
    mov ds, ax
    mov es, ax
    mov esi, template
    mov edi, gdt
    mov ecx, ${(GDT_LIMIT + 1) / 4}
    rep movsd
    mov edi, tss_base
    mov ecx, 0x80
    mov eax, 0
    rep stosd
    mov dword [tss_base+4], kernel_stack
    ${wide ? '' : 'mov dword [tss_base+8], data0'}
    mov word [tss_base+0x66], 0x400
    lgdt [gdtr]
    lidt [idtr]
    mov eax, tss
    ltr ax
    mov eax, 0
    lldt ax
    mov fs, ax
    mov gs, ax
    mov edi, idt_base
    mov ebx, stubs
    mov ecx, ${VECTORS}
    .gate:
    mov eax, ebx
    and eax, 0xffff
    or eax, ${places.code0 << 16}
    mov dword [${di}], eax
    mov eax, ebx
    and eax, 0xffff0000
    or eax, 0x8e00
    mov dword [${di}+4], eax
    ${wide ? 'mov dword [rdi+8], 0; mov dword [rdi+12], 0' : ''}
    add ebx, 16
    add edi, ${size}
    dec ecx
    jnz .gate
    mov byte [idt_base+${0x30 * size + 5}], 0xee
    mov eax, 0
    mov cr2, ${wide ? 'rax' : 'eax'}
    ret
  `;
}

const ENTER_LONG_MODE = `
  mov eax, data0
  mov ds, ax
  mov es, ax
  mov edi, page_tables
  mov ecx, 0xc00
  mov eax, 0
  cld
  rep stosd
  mov dword [page_tables], page_tables+0x1007
  mov dword [page_tables+0x1000], page_tables+0x2007
  mov edi, page_tables+0x2000
  mov eax, 0x87
  .page:
  mov dword [edi], eax
  add edi, 8
  add eax, 0x200000
  cmp edi, page_tables+0x3000
  jne .page
  mov eax, page_tables
  mov cr3, eax
  mov eax, 0x20
  mov cr4, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x901
  wrmsr
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
`;

function caseText(bits: GuestBits, number: number, it: Case): string {
  const name = `case${number}`;
  const wide = bits === 64;
  const width = it.width ?? bits;
  const user = it.cpl === 3;
  const code = user
    ? width === 64
      ? places.extra
      : places.code3
    : width === bits
      ? places.code0
      : places.code0x32;
  let text = `
    bits ${bits}
    ${name}:
    mov dword [number], ${number}
    mov dword [turn], 0
    ${name}_turn:
    mov esp, kernel_stack
    call reset
    mov dword [resume], ${name}_next
    mov dword [watched], turn
    ${it.setup ?? ''}
    mov esp, kernel_stack
  `;
  if (user || wide) {
    text += `
      push ${user ? places.data3 : places.data0}
      push ${user ? 'user_stack' : 'kernel_stack'}
      push 2
      push ${code}
      push ${name}_body
    `;
  } else text += 'push 2\npopfd\n';
  text += `mov ebp, dword [turn]\n`;
  if (user) text += `mov eax, data3; mov ds, ax; mov es, ax\n`;
  text += ['eax', 'ecx', 'edx', 'ebx', 'esi', 'edi'].map((register) => `mov ${register}, 0\n`).join('');
  if (wide) text += 'iretq\n';
  else if (user) text += 'iretd\n';
  text += `
    ${name}_body:
    bits ${width}
    ${it.body}
    bits ${width}
    int 0x30
    bits ${bits}
    ${name}_next:
    mov esp, kernel_stack
  `;
  if ((it.turns ?? 1) > 1) {
    text += `
      inc dword [turn]
      cmp dword [turn], ${it.turns}
      jb ${name}_turn
    `;
  }
  return text;
}

/** An image that runs `cases` in turn; each line starts with the number of its case and that of its turn. */
export function casesImage(bits: GuestBits, cases: readonly Case[]): Uint8Array {
  return flatImage((a: Assembler) => {
    for (const [name, value] of Object.entries(places)) a.constant(name, value);
    initializeSerial(a);
    assemble(a, `lgdt [gdtr]\n${bits === 64 ? ENTER_LONG_MODE : ''}\njmpf 8:start\nstart:`, 32);
    // Nothing interrupts: both 8259s are masked.
    assemble(a, `mov al, 0xff; out 0x21, al; out 0xa1, al`, bits);
    assemble(a, `mov eax, data0; mov ss, ax; mov ds, ax; mov es, ax; mov esp, kernel_stack`, bits);
    for (const [i, it] of cases.entries()) assemble(a, caseText(bits, i, it), bits);
    assemble(
      a,
      `
      mov eax, 100
      call putc
      mov eax, 111
      call putc
      mov eax, 110
      call putc
      mov eax, 101
      call putc
      mov eax, 10
      call putc
      mov eax, 0
      mov dx, 0xf4
      out dx, eax
      halted:
      cli
      hlt
      jmp halted
      ${PRINTING}${handlers(bits)}${resetRoutine(bits)}
      align 4096
      template:
      ${descriptors(bits)}
      gdt:
      ${descriptors(bits)}
      gdtr: dw ${GDT_LIMIT}
      dd gdt, 0
      idtr: dw ${VECTORS * (bits === 32 ? 8 : 16) - 1}
      dd idt_base, 0
      align 8
      number: dq 0
      turn: dq 0
      resume: dq 0
      watched: dq 0
      putc_save: dq 0
    `,
      bits,
    );
  }).elf;
}
