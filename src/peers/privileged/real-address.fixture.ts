/** Real-address mode and big real mode. SDM vol. 3A 20.1. */
import { type Case, segment } from '../privileged.fixture.ts';

export const cases: Case[] = [];
/** Numbers the cases, whose labels L, L1... are renamed so. */
let n = 0;

/**
 * A case in real-address mode at 1000:0000 with DS, ES, SS = 2000H and SP = 1000H; it ends at 1000:0A10 or by an
 * interrupt. The table of interrupt vectors is at 18000H.
 * @param more.keep runs in 16-bit protected mode with limits of 64 KiB, just before
 */
const real = (name: string, code: string, setup = '', more: { keep?: string; sp?: number } = {}) => {
  const prefix = `r${n++}_`;
  const f = (s: string) => s.replace(/\bL(\d*)\b/g, `${prefix}$1`);
  cases.push({
    name,
    setup: `
      mov edi, 0x10000; mov ecx, 0x200; mov eax, 0xf4f4f4f4; rep stosd
      mov esi, ${prefix}code; mov edi, 0x10000; mov ecx, 160; rep movsb
      mov esi, realblob; mov edi, 0x10800; mov ecx, 0x300; rep movsb
      mov edi, 0x20000; mov ecx, 0x4800; mov eax, 0; rep stosd
      mov edi, 0x18000; mov eax, 0x10000800; mov ecx, 0x40
      ${prefix}vector: mov dword [edi], eax; add edi, 4; add eax, 8; dec ecx; jnz ${prefix}vector
      mov dword [0x300200], 0x800003ff; mov dword [0x300204], 1
      ${setup}
      ${segment(0xa8, { base: 0x10000, limit: 0xffff, access: 0x9b, flags: 0 })}
      # The GDTR for the way back, and in 16-bit protected mode at 10700H: MOV CR0, EAX; JMP 1000:0000.
      mov word [0x10a80], 0xaf; mov dword [0x10a82], gdt
      mov dword [0x10700], 0xeac0220f; mov dword [0x10704], 0x10000000
    `,
    body: `
      mov eax, data16; mov ds, ax; mov es, ax; mov fs, ax; mov gs, ax; mov ss, ax
      ${more.keep ?? ''}
      lidt [cs:0x300200]; mov eax, cr0; and eax, 0xfffffffe; jmpf 0xa8:0x700
      ${prefix}code: bits 16
      mov ax, 0x2000; mov ds, ax; mov es, ax; mov ss, ax; mov esp, ${more.sp ?? 0x1000}
      mov eax, 0; mov ebx, 0; mov ecx, 0; mov edx, 0; mov esi, 0
      ${f(code)}
      mov si, 0x99; db 0xea; dw 0xa10, 0x1000
      ${'nop;'.repeat(160)}
    `,
  });
};
real('nop', 'nop');
real('int', 'sti; mov ax, 0x1234; int 0x21');
real('int3', 'int3');
real('into', 'mov al, 0x7f; add al, 1; db 0xce');
real('icebp', 'db 0xf1');
real('div0', 'div bl');
real('bound', 'mov word [0], 5; mov word [2], 7; bound ax, dword [bx]');
real('ud', 'ud2');
real('int beyond', 'int 0xff', 'mov dword [0x300200], 0x8000007f');
real('limit read', 'mov bx, 0xffff; mov ax, word [bx]');
real('limit stack', 'mov bp, 0xffff; mov ax, word [bp]');
real('limit 32', 'mov ebx, 0x10000; mov al, byte [ebx]');
real('push sp 0', 'mov ax, 0x55; push ax; mov bx, sp; pop cx', '', { sp: 0 });
real('pusha 0x10', 'pushaw; mov bx, sp', '', { sp: 0x10 });
for (const op of [
  'lldt ax',
  'ltr ax',
  'sldt ax',
  'str ax',
  'lar ax, bx',
  'lsl ax, bx',
  'verr ax',
  'verw ax',
  'arpl ax, bx',
  'sysenter',
  'sysexit',
  'syscall',
  'smsw ax',
  'clts',
  'rdmsr',
  'mov eax, cr0',
  'mov eax, cr4',
  'mov eax, dr7',
  'wbinvd',
  'invlpg [bx]',
  'lmsw ax',
])
  real(op, op + (op === 'mov eax, cr0' || op === 'smsw ax' ? '; and ax, 0x1' : ''));
real('iret flags', 'push 0x0ed7; db 0x0e; push 0x66; nop; mov bp, sp; mov word [bp], 60; iretw', '');
real('popf', 'push 0x7ed7; popfw; pushfw; pop ax; push 2; popfw');
real('popfd', 'mov eax, 0x247cd7; push eax; popfd; pushfd; pop eax; and eax, 0xffffff; push 2; popfw');
real(
  'far call',
  'callf 0x1010:0x700; nop'.replace('callf 0x1010:0x700', 'db 0x9a; dw 0x40, 0x1000') +
    '; nop'.repeat(20) +
    '; pop ax; pop cx; mov dx, ax',
);
real('seg', 'mov ax, 0xf123; mov ds, ax; mov bx, ds; mov al, byte [0]; mov al, 0');
real('mov cs', 'mov ax, 0x1000; db 0x8e, 0xc8');
real('unreal ds', 'mov ebx, 0x300400; mov dword [0x300400], eax', 'mov dword [0x300400], 0x13572468');
real('unreal', 'db 0x64, 0x67, 0x66, 0x8b, 0x05; dd 0x300400', 'mov dword [0x300400], 0x13572468', {
  keep: 'mov eax, 0x10; mov fs, ax',
});
real(
  'unreal after reload',
  'mov ax, 0; mov fs, ax; db 0x64, 0x67, 0x66, 0x8b, 0x05; dd 0x300400',
  'mov dword [0x300400], 0x13572468',
  { keep: 'mov eax, 0x10; mov fs, ax' },
);
real('big stack real', 'mov esp, 0x12340100; push ax; mov ebx, esp; mov esp, 0x1000', '', {});
real('ip wrap', 'mov ax, 0xfff0; jmp ax');
real('jmp eax over', 'mov eax, 0x10000; jmp eax');
real('call eax over', 'mov eax, 0x10005; call eax');
real('jmp rel wrap', 'db 0xe9; dw 0xff00');
real(
  'movs wrap',
  'mov si, 0xffff; mov di, 0x100; mov cx, 3; mov byte [0], 0x22; rep movsb; mov ax, si; mov bx, word [0x100]; mov cx, word [0x102]',
);
real('movsw wrap', 'mov si, 0xffff; mov di, 0x100; mov cx, 3; rep movsw');
real('stosd 32 wrap', 'mov edi, 0xfffe; db 0x67; stosd');
real('tf', 'pushfw; pop ax; or ax, 0x100; push ax; popfw; nop; nop');
real('hlt int', 'nop');
real('cs limit', 'db 0xe9; dw 0xffb4');
real('cs override write', 'db 0x2e; mov word [0x50], ax; mov ax, 0x55');
real('lds', 'mov word [0x10], 0x1234; mov word [0x12], 0x2001; lds bx, [0x10]; mov ax, ds');
real('enter', 'mov bp, 0x500; db 0xc8,8,0,2; mov ax, sp; mov bx, bp');
real('a32 loop', 'mov ecx, 0x10002; L1: db 0x67; loop L1; mov eax, ecx');
real('jcxz', 'mov ecx, 0x10000; jcxz L2; mov ax, 1; L2: nop');
real('xlat', 'mov bx, 0xffff; mov al, 1; mov byte [0], 0x77; db 0xd7');
real('bt wrap', 'mov bx, 0xffff; mov ax, 8; bt word [bx], ax');
real('andn', 'db 0xc4, 0xe2, 0x78, 0xf2, 0xc0');
real('lock', 'lock inc word [bx]; db 0xf0, 0x90');
// Copied to 1000:0800: a stub of 8 bytes a vector, which leave vector, IP, CS and FLAGS in SI, CX, DX and BX, and at
// 1000:0A10 the way back to protected mode, which shows SI:AX, CX, SP:DX and BX.
cases.push({
  name: 'blob',
  body:
    `nop; int 0x30; align 16; realblob: bits 16\n` +
    Array.from(
      { length: 0x40 },
      (_, v) => `db 0x6a, ${v}, 0xe9; dw ${0x200 - (8 * v + 5)}; db 0x90,0x90,0x90`,
    ).join(';') +
    `; pop si; pop cx; pop dx; pop bx; jmp rb_exit; align 16; rb_exit: cli; mov edi, eax; mov ebp, esp; db 0x2e, 0x66, 0x0f, 0x01, 0x16; dw 0xa80; mov eax, cr0; or al, 1; mov cr0, eax; db 0x66, 0xea; dd realexit; dw 8; align 16; align 16; rb_gd: zero 0x80; bits 32\nrealexit: mov eax, data0; mov ds, ax; mov es, ax; mov ss, ax; mov fs, ax; mov gs, ax; mov esp, kernel_stack; lidt [idtr]; shl esi, 16; and edi, 0xffff; or esi, edi; mov eax, esi; shl ebp, 16; or edx, ebp; int 0x30`,
});
