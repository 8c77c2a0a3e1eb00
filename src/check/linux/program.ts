/**
 * The program that a Linux kernel is checked with: a static executable, to be /init. It installs LDT entries, and then returns
 * from the kernel to a 16-bit stack segment again and again, with ever another ESP[31:16]: by rt_sigreturn, from INT 80H, from a
 * page fault, from a signal handler, from timer interrupts, and by a frame that IRET refuses. It looks at ESP after each.
 *
 * When it has done all of that once, it says on its console whether ESP was kept, and that it is ready.
 *
 * Linux arch/x86/include/uapi/asm/ldt.h, sigcontext.h; SDM vol. 2A IRET, vol. 3A 3.4.5 (D/B flag).
 */
import {
  al, createAssembler, ds, dword, eax, ebx, ecx, edi, edx, es, esi, esp, mem, r8q, r9, r10, rax, rbx, rdi, rdx, rsi,
  rsp, ss, sym, word,
} from '../../kernel/assembler.ts'; // biome-ignore format: one list
import { type InitramfsEntry, initramfs } from '../../machine/boot/initramfs.ts';
import { writeElf } from '../../silicon/elf.ts';
import {
  encodeUserDescriptor,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MODIFY_LDT_WRITE,
  PR_SET_PDEATHSIG,
  PROT_READ,
  PROT_WRITE,
  SA_ONSTACK,
  SA_RESTORER,
  SA_SIGINFO,
  SIGCONTEXT,
  SIGNAL,
  SYS,
  UC_MCONTEXT,
  UC_SIGCONTEXT_SS,
  USER_CS,
  USER_DS,
  USER32_CS,
} from '../../silicon/linux-abi.ts';

/** What the program prints. */
export const SAYS = {
  ready: 'espfix: ready',
  lost: 'espfix: ESP[31:16] was lost',
  refused: 'espfix: modify_ldt refuses 16-bit segments',
} as const;

const TEXT = 0x40_0000n;
const DATA = 0x60_0000n;
/** The 16-bit stack segment, and SP in it. */
const STACK16 = 0x70_0000n;
const STACK16_BYTES = 0x1_0000;
const SP = 0xf000;
/** A page that is not there when it is touched. */
const FRESH = 0x80_0000n;
const PAGE = 4096;

/** Selectors of the LDT, by entry. */
const LDT = { stack16: 0x07, code16: 0x0f, absent: 0x17 } as const;
const DESCRIPTORS = [
  { base: Number(STACK16), limit: STACK16_BYTES - 1, bits32: false, type: 'data' },
  { base: Number(TEXT), limit: 0xffff, bits32: false, type: 'code' },
  { base: 0, limit: 0xfffff, pages: true, bits32: true, type: 'code', absent: true },
] as const;
const DESCRIPTOR_BYTES = 16;

/** ESP[31:16] at first, and what is added to it for each return. */
const FIRST_UPPER = 0x5aad_0000;
const NEXT_UPPER = 0x9e37_0000;
/** Turns of a loop of two instructions: enough for a timer interrupt at 100 Hz and a nanosecond an instruction. */
const SPIN = 6_000_000;
const GETPID_32 = 20;
const { SIGTRAP, SIGSEGV, SIGBUS } = SIGNAL;
/** #BP, and what an IRET that faults may be told as. */
const SIGNALS = [SIGTRAP, SIGSEGV, SIGBUS];
const RFLAGS = 0x202;
/** Of `has.int80` in the data. */
const HAS_INT80 = 4;
const ALTERNATE_BYTES = 0x4000;

/** The executable: ELF64, static, at fixed addresses below 4 GiB. */
export function linuxProgram(): Uint8Array {
  const a = createAssembler();
  const systemCall = (number: number) => {
    a.mov(eax, number);
    a.syscall();
  };
  const print = (text: string, bytes: number) => {
    a.mov(edi, 1);
    a.lea(rsi, mem(text));
    a.mov(edx, bytes);
    systemCall(SYS.write);
  };
  const gpr = (n: number) => UC_MCONTEXT + SIGCONTEXT.gpr[n];
  const [RBX, RSP, RSI, RDI] = [3, 4, 6, 7];

  a.section('.text').bits(64);
  a.label('start');
  // The kernel prints what signals the first process gets: a child does the work, and the first waits for it.
  systemCall(SYS.fork);
  a.test(eax, eax);
  a.jz('child');
  a.mov(edi, eax);
  a.mov(esi, 0);
  a.mov(edx, 0);
  a.mov(r10, 0);
  systemCall(SYS.wait4);
  a.mov(edi, 1);
  systemCall(SYS.exit);
  a.label('child');
  a.mov(edi, PR_SET_PDEATHSIG);
  a.mov(esi, SIGNAL.SIGKILL);
  systemCall(SYS.prctl);
  for (const [i] of DESCRIPTORS.entries()) {
    a.mov(edi, MODIFY_LDT_WRITE);
    a.lea(rsi, mem(sym('descriptors', i * DESCRIPTOR_BYTES)));
    a.mov(edx, DESCRIPTOR_BYTES);
    systemCall(SYS.modify_ldt);
    a.test(eax, eax);
    a.jnz('refused');
  }
  a.lea(rdi, mem('alternate'));
  a.mov(esi, 0);
  systemCall(SYS.sigaltstack);
  for (const signal of SIGNALS) {
    a.mov(edi, signal);
    a.lea(rsi, mem(`action.${signal}`));
    a.mov(edx, 0);
    a.mov(r10, 8);
    systemCall(SYS.rt_sigaction);
  }
  // Without IA32_EMULATION there is no gate: #GP.
  a.lea(rax, mem('no.int80'));
  a.mov(mem('go.on'), rax);
  a.mov(eax, GETPID_32);
  a.int(0x80);
  a.mov(dword('has.int80'), 1);
  a.label('no.int80');
  a.mov(eax, USER_DS);
  a.mov(ds, eax);
  a.mov(es, eax);

  a.label('round');
  for (const [name, selector, base] of [
    ['32', USER32_CS, 0n],
    ['16', LDT.code16, TEXT],
  ] as const) {
    returnTo(`target.${name}`, selector, base);
    a.label(`back.${name}`);
    a.mov(eax, USER_DS);
    a.mov(ss, eax);
  }
  // A frame that IRET refuses, on the ministack.
  a.lea(rax, mem('refused.frame'));
  a.mov(mem('go.on'), rax);
  returnTo('target.32', LDT.absent, 0n);
  a.label('refused.frame');
  a.cmp(dword('told'), 0);
  a.jne('round');
  a.mov(dword('told'), 1);
  a.cmp(dword('losses'), 0);
  a.je('ready');
  print('text.lost', SAYS.lost.length + 1);
  a.label('ready');
  print('text.ready', SAYS.ready.length + 1);
  a.jmp('round');

  a.label('refused');
  print('text.refused', SAYS.refused.length + 1);
  a.mov(edi, 1);
  systemCall(SYS.exit);

  // By the context that rt_sigreturn finds at RSP: a 16-bit stack, code at `target` in the segment `selector` of that base.
  function returnTo(target: string, selector: number, base: bigint): void {
    a.mov(edi, Number(FRESH));
    a.mov(esi, PAGE);
    a.mov(edx, PROT_READ | PROT_WRITE);
    a.mov(r10, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
    a.mov(r8q, -1);
    a.mov(r9, 0);
    systemCall(SYS.mmap);
    a.mov(ebx, dword('upper'));
    a.add(ebx, NEXT_UPPER);
    a.mov(dword('upper'), ebx);
    a.or(ebx, SP);
    a.mov(mem(sym('context', gpr(RBX))), rbx);
    a.mov(mem(sym('context', gpr(RSP))), rbx);
    a.mov(eax, sym(target, -base));
    a.mov(mem(sym('context', UC_MCONTEXT + SIGCONTEXT.rip)), rax);
    a.mov(word(sym('context', UC_MCONTEXT + SIGCONTEXT.cs)), selector);
    a.lea(rsp, mem('context'));
    systemCall(SYS.rt_sigreturn);
  }

  // EBX is what ESP has to be, EDI where losses are counted, ESI the fresh page.
  for (const bits of [32, 16] as const) {
    const verify = () => {
      a.cmp(esp, ebx);
      a.setne(al);
      a.movzx(eax, al);
      a.add(mem(edi), eax);
      a.mov(esp, ebx);
    };
    a.bits(bits).label(`target.${bits}`);
    verify();
    a.push(eax);
    a.pop(eax);
    a.cmp(dword(edi, HAS_INT80), 0);
    a.je('.none');
    a.mov(eax, GETPID_32);
    a.int(0x80);
    verify();
    a.label('.none');
    a.mov(mem(esi), al);
    verify();
    a.int3();
    verify();
    a.mov(ecx, SPIN);
    a.label('.spin');
    a.dec(ecx);
    a.jnz('.spin');
    verify();
    a.jmpFar(USER_CS, `back.${bits}`);
  }

  // SIGSEGV and SIGBUS: goes on at `go.on`, in 64-bit mode and on a flat stack.
  a.bits(64).label('on.segv');
  a.mov(rax, mem('go.on'));
  a.mov(mem(rdx, UC_MCONTEXT + SIGCONTEXT.rip), rax);
  a.mov(word(rdx, UC_MCONTEXT + SIGCONTEXT.cs), USER_CS);
  a.mov(word(rdx, UC_MCONTEXT + SIGCONTEXT.ss), USER_DS);
  a.label('on.trap');
  a.ret();
  a.label('restore');
  systemCall(SYS.rt_sigreturn);

  a.section('.data');
  // 32- and 16-bit code finds these two by their places.
  a.label('losses').dd(0);
  a.label('has.int80').dd(0);
  a.label('told').dd(0);
  a.label('upper').dd(FIRST_UPPER);
  a.label('go.on').dq(0);
  a.label('descriptors');
  for (const [i, descriptor] of DESCRIPTORS.entries()) a.bytes(encodeUserDescriptor(i, descriptor));
  for (const signal of SIGNALS)
    a.label(`action.${signal}`).dq(
      sym(signal === SIGTRAP ? 'on.trap' : 'on.segv'),
      SA_ONSTACK | SA_RESTORER | SA_SIGINFO,
      sym('restore'),
      0,
    );
  a.label('alternate').dq(sym('alternate.stack'), 0, ALTERNATE_BYTES);
  a.align(16);
  const context = new DataView(new ArrayBuffer(UC_MCONTEXT + SIGCONTEXT.size + 8));
  context.setBigUint64(0, BigInt(UC_SIGCONTEXT_SS), true);
  context.setBigUint64(gpr(RSI), FRESH, true);
  context.setBigUint64(gpr(RDI), DATA, true);
  context.setBigUint64(UC_MCONTEXT + SIGCONTEXT.rflags, BigInt(RFLAGS), true);
  context.setUint16(UC_MCONTEXT + SIGCONTEXT.ss, LDT.stack16, true);
  const UC_STACK = 16;
  a.label('context').bytes(new Uint8Array(context.buffer, 0, UC_STACK));
  a.dq(sym('alternate.stack'), 0, ALTERNATE_BYTES);
  a.bytes(new Uint8Array(context.buffer, UC_MCONTEXT));
  for (const name of ['ready', 'lost', 'refused'] as const) a.label(`text.${name}`).db(`${SAYS[name]}\n`);
  a.align(16).label('alternate.stack').zero(ALTERNATE_BYTES);

  const linked = a.link(
    new Map([
      ['.text', TEXT],
      ['.data', DATA],
    ]),
  );
  const bytesOf = (name: string) => linked.sections.get(name)?.bytes ?? new Uint8Array(0);
  return writeElf(linked.symbols.get('start') ?? TEXT, [
    { address: TEXT, data: bytesOf('.text'), writable: false, executable: true },
    { address: DATA, data: bytesOf('.data'), writable: true, executable: false },
    {
      address: STACK16,
      data: new Uint8Array(0),
      memorySize: STACK16_BYTES,
      writable: true,
      executable: false,
    },
  ]);
}

/** The initial RAM file system with that program. */
export function linuxInitramfs(): Uint8Array {
  const entries: InitramfsEntry[] = [
    { kind: 'folder', name: 'dev' },
    { kind: 'character-device', name: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', name: 'init', bytes: linuxProgram(), executable: true },
  ];
  return initramfs(entries);
}
