/**
 * The native side of the fuzzer: a static Linux program that runs batches of cases on the processor itself.
 *
 * It reads the memory pattern, then batches (count, flags, code region, cases, images) from standard input and writes
 * one result a case, then the images, to standard output. A case starts with IRETQ, which loads CS, RIP, RFLAGS, SS and RSP at
 * once, and ends with an exception, whose signal handler (on an alternate stack, above 4 GiB) records the
 * machine context and goes on with the next case without returning.
 *
 * sigaction(2), sigaltstack(2), modify_ldt(2), prctl(2) PR_SET_SYSCALL_USER_DISPATCH (a system call made by a
 * case becomes SIGSYS instead).
 */
import { Code as C, Register as R } from 'iced-x86';
import { Assembler, type AssemblyOperand, at, type Label, near } from './assembler.ts';
import { CASE, KIND_SYSCALL, KIND_TIMEOUT, PATCH_BYTES, RESULT, RESULT_WORDS } from './batch.ts';
import { writeElf } from './elf.ts';
import {
  CHANGEABLE_CODE,
  CODE,
  CODE_BYTES,
  DATA_BYTES,
  LDT,
  READ_ONLY,
  READ_ONLY_BYTES,
  SCRATCH,
  SCRATCH_BYTES,
  STACK_HIGH,
} from './layout.ts';
import {
  encodeUserDescriptor,
  ITIMER_PROF,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MODIFY_LDT_WRITE,
  PR_SET_SYSCALL_USER_DISPATCH,
  PR_SYS_DISPATCH_ON,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  SA_NODEFER,
  SA_ONSTACK,
  SA_RESTART,
  SA_RESTORER,
  SA_SIGINFO,
  SIGCONTEXT,
  SIGNAL,
  SYS,
  SYSCALL_DISPATCH_FILTER_BLOCK,
  UC_MCONTEXT,
} from './linux-abi.ts';
import { IMAGE, IMAGE_BYTES } from './vector-state.ts';

/** Addresses that arithmetic on edge values does not come upon. */
const TEXT = 0x15b7_3a60_0000n;
const DATA = 0x15b7_6c90_0000n;
/** Mapped with bits 31:16 as a 16-bit stack segment is to find them in ESP (IRET leaves them). */
const IRET_STACK = 0x1a3d_0000_0000n + (BigInt(STACK_HIGH) << 16n);
const IRET_STACK_BYTES = 0x10000;
/** Second mapping of the code region, for writing. */
const CODE_ALIAS = 0x1c59_7d30_0000n;

/** The most cases in one batch. */
export const MAX_CASES = 8192;
/** Seconds of processor time, the kernel's for it included, after which a case that does not end is ended. */
const WATCHDOG_SECONDS = 1;

/** What the harness tells before the first batch: FSGSBASE, LAR and LSL of 7b, prctl's result; 32 bits each. */
export const INFO_BYTES = 16;
/** Bytes of a batch's header: number of cases, and whether images of vector registers come with them (32 bits each). */
export const HEADER_BYTES = 8;

/** Exit statuses. */
export const EXIT_NO_LDT = 2;
export const EXIT_SETUP = 3;
const EXIT_HARNESS_FAULT = 4;

/** The ELF image of the harness. */
export function buildHarness(): Uint8Array {
  const data = new Assembler();
  const variable = (name: string, bytes: number, align = 8): Label => {
    data.align(align);
    const label = data.here(name);
    data.space(bytes);
    return label;
  };
  const inCase = variable('inCase', 8);
  const hasFsGsBase = variable('hasFsGsBase', 8);
  const casePointer = variable('casePointer', 8);
  const resultPointer = variable('resultPointer', 8);
  const remaining = variable('remaining', 8);
  const dispatchSelector = variable('dispatchSelector', 8);
  const header = variable('header', HEADER_BYTES);
  const info = variable('info', INFO_BYTES);
  const imagePointer = variable('imagePointer', 8);
  const imageStride = variable('imageStride', 8);
  const resultImagePointer = variable('resultImagePointer', 8);
  const memfdName = variable('memfdName', 8);
  const affinity = variable('affinity', 128);
  data.align(8);
  const descriptors = data.here('descriptors');
  LDT.forEach((descriptor, entry) => {
    if (descriptor) data.bytes(...encodeUserDescriptor(entry, descriptor));
  });
  const alternateStack = data.here('alternateStack');
  const stackBase = variable('stackBase', 8);
  const stackFlags = variable('stackFlags', 8);
  const stackSize = variable('stackSize', 8);
  const action = variable('action', 32);
  const timer = variable('timer', 32);
  const initialized = data.assemble(DATA);

  // Beyond the initialized data: zero-filled buffers.
  let end = (DATA + BigInt(initialized.image.length) + 0xffffn) & ~0xffffn;
  const buffer = (bytes: number): bigint => {
    const address = end;
    end = (end + BigInt(bytes) + 0xffffn) & ~0xffffn;
    return address;
  };
  const pristine = buffer(DATA_BYTES);
  const master = buffer(DATA_BYTES);
  const cases = buffer(MAX_CASES * CASE.size);
  const results = buffer(MAX_CASES * RESULT.size);
  const images = buffer(MAX_CASES * IMAGE_BYTES);
  const resultImages = buffer(MAX_CASES * IMAGE_BYTES);
  const noVectors = buffer(IMAGE_BYTES);
  const signalStackBytes = 0x20000;
  const signalStack = buffer(signalStackBytes);
  const harnessStack = buffer(0x10000) + 0xf000n;

  const a = new Assembler();
  const dataAt = (label: Label, offset = 0): AssemblyOperand => {
    const address = initialized.addresses.get(label);
    if (address === undefined) throw new Error(`no address for ${label.name}`);
    return { ...at(R.RIP, 0), displacement: address + BigInt(offset), displacementSize: 8 };
  };
  const set = (register: R, value: bigint) => a.op(C.Mov_r64_imm64, register, value & 0xffff_ffff_ffff_ffffn);
  const argumentRegisters = [R.RDI, R.RSI, R.RDX, R.R10, R.R8, R.R9];
  /** A system call with constant or already loaded (undefined) arguments. */
  const call = (number: number, ...values: (bigint | Label | undefined)[]) => {
    values.forEach((value, i) => {
      const register = argumentRegisters[i];
      if (value === undefined) return;
      if (typeof value === 'bigint') set(register, value);
      else a.op(C.Lea_r64_m, register, dataAt(value));
    });
    set(R.RAX, BigInt(number));
    a.op(C.Syscall);
  };
  const fail = a.label('fail');
  const failIfNegative = () => {
    a.op(C.Test_rm64_r64, R.RAX, R.RAX);
    a.op(C.Js_rel32_64, fail);
  };
  const map = (address: bigint, bytes: number, protection: number, flags: number, fd?: R) => {
    if (fd === undefined) set(R.R8, -1n);
    else a.op(C.Mov_r64_rm64, R.R8, fd);
    call(
      SYS.mmap,
      address,
      BigInt(bytes),
      BigInt(protection),
      BigInt(flags | MAP_FIXED | MAP_POPULATE),
      undefined,
      0n,
    );
    failIfNegative();
  };

  const start = a.here('start');
  a.op(C.Cld);
  // The auxiliary vector follows argc, argv and envp: AT_HWCAP2 (26) bit 1 says that FSGSBASE may be used.
  a.op(C.Mov_r64_rm64, R.RSI, R.RSP);
  a.op(C.Mov_r64_rm64, R.RAX, at(R.RSI));
  a.op(C.Lea_r64_m, R.RSI, at(R.RSI, 16, R.RAX, 8));
  const environment = a.here('environment');
  a.op(C.Mov_r64_rm64, R.RAX, at(R.RSI));
  a.op(C.Add_rm64_imm8, R.RSI, 8n);
  a.op(C.Test_rm64_r64, R.RAX, R.RAX);
  a.op(C.Jne_rel32_64, environment);
  const auxiliary = a.here('auxiliary');
  const nextAuxiliary = a.label('nextAuxiliary');
  const auxiliaryDone = a.label('auxiliaryDone');
  a.op(C.Mov_r64_rm64, R.RAX, at(R.RSI));
  a.op(C.Test_rm64_r64, R.RAX, R.RAX);
  a.op(C.Je_rel32_64, auxiliaryDone);
  a.op(C.Cmp_rm64_imm8, R.RAX, 26n);
  a.op(C.Jne_rel32_64, nextAuxiliary);
  a.op(C.Mov_r64_rm64, R.RCX, at(R.RSI, 8));
  a.op(C.And_rm32_imm8, R.ECX, 2n);
  a.op(C.Mov_rm64_r64, dataAt(hasFsGsBase), R.RCX);
  a.place(nextAuxiliary);
  a.op(C.Add_rm64_imm8, R.RSI, 16n);
  a.op(C.Jmp_rel32_64, auxiliary);
  a.place(auxiliaryDone);
  set(R.RSP, harnessStack);

  // Memory.
  call(SYS.memfd_create, memfdName, 0n);
  failIfNegative();
  a.op(C.Mov_r64_rm64, R.RBX, R.RAX);
  a.op(C.Mov_r64_rm64, R.RDI, R.RBX);
  call(SYS.ftruncate, undefined, BigInt(CODE_BYTES));
  failIfNegative();
  map(BigInt(CODE), CODE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, R.RBX);
  map(CODE_ALIAS, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, R.RBX);
  map(BigInt(SCRATCH), DATA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  map(IRET_STACK, IRET_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

  // The pattern, to all three of its places.
  const readExactly = a.label('readExactly');
  const writeExactly = a.label('writeExactly');
  const exitQuietly = a.label('exitQuietly');
  set(R.RSI, master);
  set(R.RDX, BigInt(DATA_BYTES));
  a.op(C.Call_rel32_64, readExactly);
  for (const destination of [pristine, BigInt(SCRATCH)]) {
    set(R.RSI, master);
    set(R.RDI, destination);
    set(R.RCX, BigInt(DATA_BYTES));
    a.bytes(0xf3, 0xa4); // rep movsb
  }
  call(SYS.mprotect, BigInt(READ_ONLY), BigInt(READ_ONLY_BYTES), BigInt(PROT_READ));
  failIfNegative();
  call(SYS.mprotect, BigInt(CHANGEABLE_CODE), 0x1000n, BigInt(PROT_READ | PROT_WRITE | PROT_EXEC));
  failIfNegative();

  // Signals: every one on the alternate stack, none blocked in its handler.
  set(R.RAX, signalStack);
  a.op(C.Mov_rm64_r64, dataAt(stackBase), R.RAX);
  a.op(C.Mov_rm64_imm32, dataAt(stackFlags), 0n);
  a.op(C.Mov_rm64_imm32, dataAt(stackSize), BigInt(signalStackBytes));
  call(SYS.sigaltstack, alternateStack, 0n);
  failIfNegative();
  const handler = a.label('handler');
  const restorer = a.label('restorer');
  a.op(C.Lea_r64_m, R.RAX, near(handler));
  a.op(C.Mov_rm64_r64, dataAt(action), R.RAX);
  set(R.RAX, BigInt(SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER | SA_RESTART));
  a.op(C.Mov_rm64_r64, dataAt(action, 8), R.RAX);
  a.op(C.Lea_r64_m, R.RAX, near(restorer));
  a.op(C.Mov_rm64_r64, dataAt(action, 16), R.RAX);
  for (const signal of Object.values(SIGNAL)) {
    // It cannot be caught.
    if (signal === SIGNAL.SIGKILL) continue;
    call(SYS.rt_sigaction, BigInt(signal), action, 0n, 8n);
    failIfNegative();
  }

  // The LDT.
  const count = LDT.filter((descriptor) => descriptor).length;
  const noLdt = a.label('noLdt');
  for (let i = 0; i < count; i++) {
    a.op(C.Lea_r64_m, R.RSI, dataAt(descriptors, i * 16));
    call(SYS.modify_ldt, BigInt(MODIFY_LDT_WRITE), undefined, 16n);
    // The system call's result is an int.
    a.op(C.Test_rm32_r32, R.EAX, R.EAX);
    a.op(C.Jne_rel32_64, noLdt);
  }

  // MXCSR is taken from an image whatever its header says.
  set(R.RAX, noVectors);
  a.op(C.Mov_rm32_imm32, at(R.RAX, IMAGE.mxcsr), 0x1f80n);

  // What the parent wants to know.
  a.op(C.Mov_r64_rm64, R.RAX, dataAt(hasFsGsBase));
  a.op(C.Mov_rm32_r32, dataAt(info), R.EAX);
  a.op(C.Mov_r32_imm32, R.EAX, 0x7bn);
  a.op(C.Xor_r32_rm32, R.ECX, R.ECX);
  a.op(C.Lar_r32_r32m16, R.ECX, R.EAX);
  a.op(C.Mov_rm32_r32, dataAt(info, 4), R.ECX);
  // The limit's low twelve bits are the processor's number: it stays the same from here on.
  a.op(C.Xor_r32_rm32, R.ECX, R.ECX);
  a.op(C.Lsl_r32_r32m16, R.ECX, R.EAX);
  a.op(C.And_rm32_imm32, R.ECX, 0x3ffn);
  a.op(C.Lea_r64_m, R.RDX, dataAt(affinity));
  a.op(C.Bts_rm32_r32, at(R.RDX), R.ECX);
  call(SYS.sched_setaffinity, 0n, 128n, affinity);
  a.op(C.Mov_r32_imm32, R.EAX, 0x7bn);
  a.op(C.Xor_r32_rm32, R.ECX, R.ECX);
  a.op(C.Lsl_r32_r32m16, R.ECX, R.EAX);
  a.op(C.Mov_rm32_r32, dataAt(info, 8), R.ECX);

  // System calls from outside this program's text become SIGSYS; a kernel without this says EINVAL.
  const textEnd = a.label('textEnd');
  a.op(C.Mov_rm8_imm8, dataAt(dispatchSelector), BigInt(SYSCALL_DISPATCH_FILTER_BLOCK));
  a.op(C.Lea_r64_m, R.R10, near(textEnd));
  set(R.RAX, TEXT);
  a.op(C.Sub_r64_rm64, R.R10, R.RAX);
  call(
    SYS.prctl,
    BigInt(PR_SET_SYSCALL_USER_DISPATCH),
    BigInt(PR_SYS_DISPATCH_ON),
    TEXT,
    undefined,
    dispatchSelector,
  );
  a.op(C.Mov_rm32_r32, dataAt(info, 12), R.EAX);
  a.op(C.Lea_r64_m, R.RSI, dataAt(info));
  set(R.RDX, BigInt(INFO_BYTES));
  a.op(C.Call_rel32_64, writeExactly);

  // A batch.
  const batch = a.here('batch');
  a.op(C.Lea_r64_m, R.RSI, dataAt(header));
  set(R.RDX, BigInt(HEADER_BYTES));
  a.op(C.Call_rel32_64, readExactly);
  set(R.RSI, CODE_ALIAS);
  set(R.RDX, BigInt(CODE_BYTES));
  a.op(C.Call_rel32_64, readExactly);
  a.op(C.Mov_r32_rm32, R.EDX, dataAt(header));
  a.op(C.Mov_rm64_r64, dataAt(remaining), R.RDX);
  a.op(C.Shl_rm64_imm8, R.RDX, 8n);
  set(R.RSI, cases);
  a.op(C.Mov_rm64_r64, dataAt(casePointer), R.RSI);
  a.op(C.Call_rel32_64, readExactly);
  set(R.RAX, results);
  a.op(C.Mov_rm64_r64, dataAt(resultPointer), R.RAX);
  set(R.RAX, noVectors);
  a.op(C.Mov_rm64_r64, dataAt(imagePointer), R.RAX);
  a.op(C.Mov_rm64_imm32, dataAt(imageStride), 0n);
  const imagesRead = a.label('imagesRead');
  const imageBytes = (of: R) => {
    a.op(C.Mov_r32_rm32, of, dataAt(header));
    a.op(C.Imul_r32_rm32_imm32, of, of, BigInt(IMAGE_BYTES));
  };
  a.op(C.Cmp_rm32_imm8, dataAt(header, 4), 0n);
  a.op(C.Je_rel32_64, imagesRead);
  imageBytes(R.EDX);
  set(R.RSI, images);
  a.op(C.Mov_rm64_r64, dataAt(imagePointer), R.RSI);
  a.op(C.Mov_rm64_imm32, dataAt(imageStride), BigInt(IMAGE_BYTES));
  a.op(C.Call_rel32_64, readExactly);
  set(R.RAX, resultImages);
  a.op(C.Mov_rm64_r64, dataAt(resultImagePointer), R.RAX);
  a.place(imagesRead);
  for (const offset of [0, 16]) a.op(C.Mov_rm64_imm32, dataAt(timer, offset), BigInt(WATCHDOG_SECONDS));
  call(SYS.setitimer, BigInt(ITIMER_PROF), timer, 0n);

  const nextCase = a.here('nextCase');
  const batchDone = a.label('batchDone');
  a.op(C.Cmp_rm64_imm8, dataAt(remaining), 0n);
  a.op(C.Je_rel32_64, batchDone);
  a.op(C.Mov_r64_rm64, R.RBX, dataAt(casePointer));
  a.op(C.Mov_r32_rm32, R.ECX, at(R.RBX, CASE.patchAt));
  set(R.RDI, BigInt(SCRATCH));
  set(R.RSI, pristine);
  for (let i = 0; i < PATCH_BYTES; i += 16) {
    a.op(C.Movdqu_xmm_xmmm128, R.XMM0, at(R.RBX, CASE.patch + i));
    a.op(C.Movdqu_xmmm128_xmm, at(R.RDI, i, R.RCX), R.XMM0);
    a.op(C.Movdqu_xmmm128_xmm, at(R.RSI, i, R.RCX), R.XMM0);
  }
  const selector = (i: number) => at(R.RBX, CASE.selectors + i * 2);
  a.op(C.Mov_Sreg_rm16, R.DS, selector(2));
  a.op(C.Mov_Sreg_rm16, R.ES, selector(3));
  a.op(C.Mov_Sreg_rm16, R.FS, selector(4));
  a.op(C.Mov_Sreg_rm16, R.GS, selector(5));
  const basesDone = a.label('basesDone');
  a.op(C.Cmp_rm32_imm8, dataAt(hasFsGsBase), 0n);
  a.op(C.Je_rel32_64, basesDone);
  for (const [index, offset, code] of [
    [4, CASE.fsBase, C.Wrfsbase_r64],
    [5, CASE.gsBase, C.Wrgsbase_r64],
  ] as const) {
    const loaded = a.label('loaded');
    a.op(C.Movzx_r32_rm16, R.EAX, selector(index));
    a.op(C.And_rm32_imm8, R.EAX, -4n);
    a.op(C.Jne_rel32_64, loaded);
    a.op(C.Mov_r64_rm64, R.RAX, at(R.RBX, offset));
    a.op(code, R.RAX);
    a.place(loaded);
  }
  a.place(basesDone);
  a.op(C.Mov_r64_rm64, R.RCX, dataAt(imagePointer));
  a.op(C.Mov_r32_imm32, R.EAX, 7n);
  a.op(C.Xor_r32_rm32, R.EDX, R.EDX);
  a.op(C.Xrstor64_mem, at(R.RCX));
  a.op(C.Mov_rm8_imm8, dataAt(inCase), 1n);
  set(R.RSP, IRET_STACK + 0xf000n);
  a.op(C.Movzx_r32_rm16, R.EAX, selector(1));
  a.op(C.Push_r64, R.RAX);
  a.op(C.Push_rm64, at(R.RBX, CASE.gpr + 4 * 8));
  a.op(C.Push_rm64, at(R.RBX, CASE.rflags));
  a.op(C.Movzx_r32_rm16, R.EAX, selector(0));
  a.op(C.Push_r64, R.RAX);
  a.op(C.Push_rm64, at(R.RBX, CASE.rip));
  const generals = [
    R.RAX, R.RCX, R.RDX, R.RBX, R.RSP, R.RBP, R.RSI, R.RDI,
    R.R8, R.R9, R.R10, R.R11, R.R12, R.R13, R.R14, R.R15,
  ]; // biome-ignore format: register numbers in two rows
  generals.forEach((register, i) => {
    if (register !== R.RBX && register !== R.RSP) a.op(C.Mov_r64_rm64, register, at(R.RBX, CASE.gpr + i * 8));
  });
  a.op(C.Mov_r64_rm64, R.RBX, at(R.RBX, CASE.gpr + 3 * 8));
  a.op(C.Iretq);

  a.place(batchDone);
  a.op(C.Mov_r32_rm32, R.EDX, dataAt(header));
  a.op(C.Shl_rm64_imm8, R.RDX, 8n);
  set(R.RSI, results);
  a.op(C.Call_rel32_64, writeExactly);
  a.op(C.Cmp_rm32_imm8, dataAt(header, 4), 0n);
  a.op(C.Je_rel32_64, batch);
  imageBytes(R.EDX);
  set(R.RSI, resultImages);
  a.op(C.Call_rel32_64, writeExactly);
  a.op(C.Jmp_rel32_64, batch);

  // handler(signal, siginfo, ucontext). NT, AC and ID may be as the case left them.
  a.place(handler);
  const outside = a.label('outside');
  a.op(C.Pushq_imm8, 2n);
  a.op(C.Popfq);
  a.op(C.Cmp_rm8_imm8, dataAt(inCase), 0n);
  a.op(C.Je_rel32_64, outside);
  a.op(C.Mov_rm8_imm8, dataAt(inCase), 0n);
  a.op(C.Mov_r64_rm64, R.R12, dataAt(resultPointer));
  a.op(C.Lea_r64_m, R.RSI, at(R.RDX, UC_MCONTEXT));
  const move64 = (to: number, from: number) => {
    a.op(C.Mov_r64_rm64, R.RAX, at(R.RSI, from));
    a.op(C.Mov_rm64_r64, at(R.R12, to), R.RAX);
  };
  SIGCONTEXT.gpr.forEach((offset, i) => {
    move64(RESULT.gpr + i * 8, offset);
  });
  move64(RESULT.rip, SIGCONTEXT.rip);
  move64(RESULT.rflags, SIGCONTEXT.rflags);
  move64(RESULT.cr2, SIGCONTEXT.cr2);
  const result16 = (offset: number) => a.op(C.Mov_rm16_r16, at(R.R12, offset), R.AX);
  a.op(C.Movzx_r32_rm16, R.EAX, at(R.RSI, SIGCONTEXT.cs));
  result16(RESULT.selectors);
  a.op(C.Movzx_r32_rm16, R.EAX, at(R.RSI, SIGCONTEXT.ss));
  result16(RESULT.selectors + 2);
  [R.DS, R.ES, R.FS, R.GS].forEach((register, i) => {
    a.op(C.Mov_r32m16_Sreg, R.EAX, register);
    result16(RESULT.selectors + 4 + i * 2);
  });
  const basesRead = a.label('basesRead');
  a.op(C.Xor_r32_rm32, R.EAX, R.EAX);
  a.op(C.Mov_rm64_r64, at(R.R12, RESULT.fsBase), R.RAX);
  a.op(C.Mov_rm64_r64, at(R.R12, RESULT.gsBase), R.RAX);
  a.op(C.Cmp_rm32_imm8, dataAt(hasFsGsBase), 0n);
  a.op(C.Je_rel32_64, basesRead);
  a.op(C.Rdfsbase_r64, R.RAX);
  a.op(C.Mov_rm64_r64, at(R.R12, RESULT.fsBase), R.RAX);
  a.op(C.Rdgsbase_r64, R.RAX);
  a.op(C.Mov_rm64_r64, at(R.R12, RESULT.gsBase), R.RAX);
  a.place(basesRead);
  a.op(C.Xor_r32_rm32, R.EAX, R.EAX);
  a.op(C.Xor_r32_rm32, R.ECX, R.ECX);
  a.op(C.Cmp_rm32_imm8, R.EDI, BigInt(SIGNAL.SIGPROF));
  a.op(C.Sete_rm8, R.AL);
  a.op(C.Cmp_rm32_imm8, R.EDI, BigInt(SIGNAL.SIGSYS));
  a.op(C.Sete_rm8, R.CL);
  a.op(C.Imul_r32_rm32_imm32, R.EAX, R.EAX, BigInt(KIND_TIMEOUT));
  a.op(C.Imul_r32_rm32_imm32, R.ECX, R.ECX, BigInt(KIND_SYSCALL));
  a.op(C.Or_r32_rm32, R.EAX, R.ECX);
  a.op(C.Mov_rm8_r8, at(R.R12, RESULT.kind), R.AL);
  a.op(C.Mov_r32_rm32, R.EAX, at(R.RSI, SIGCONTEXT.trapno));
  a.op(C.Mov_rm8_r8, at(R.R12, RESULT.trapno), R.AL);
  a.op(C.Mov_r32_rm32, R.EAX, at(R.RSI, SIGCONTEXT.err));
  result16(RESULT.err);

  // The kernel has put the vector registers into the frame, as XSAVE does.
  const imageKept = a.label('imageKept');
  a.op(C.Cmp_rm32_imm8, dataAt(header, 4), 0n);
  a.op(C.Je_rel32_64, imageKept);
  a.op(C.Mov_r64_rm64, R.RSI, at(R.RSI, SIGCONTEXT.fpstate));
  a.op(C.Mov_r64_rm64, R.RDI, dataAt(resultImagePointer));
  a.op(C.Mov_r32_imm32, R.ECX, BigInt(IMAGE_BYTES));
  a.bytes(0xf3, 0xa4); // rep movsb
  a.place(imageKept);

  // Compare scratch memory with what it was, and put it back. EDX: hash. EBX: words changed.
  set(R.RSP, harnessStack);
  set(R.RSI, BigInt(SCRATCH));
  set(R.RDI, pristine);
  a.op(C.Xor_r32_rm32, R.ECX, R.ECX);
  a.op(C.Xor_r32_rm32, R.EDX, R.EDX);
  a.op(C.Xor_r32_rm32, R.EBX, R.EBX);
  const scan = a.here('scan');
  const scanNext = a.label('scanNext');
  for (let i = 0; i < 4; i++) {
    const register = [R.XMM0, R.XMM1, R.XMM2, R.XMM3][i];
    a.op(C.Movdqa_xmm_xmmm128, register, at(R.RSI, i * 16, R.RCX));
    a.op(C.Pcmpeqb_xmm_xmmm128, register, at(R.RDI, i * 16, R.RCX));
  }
  a.op(C.Pand_xmm_xmmm128, R.XMM0, R.XMM1);
  a.op(C.Pand_xmm_xmmm128, R.XMM2, R.XMM3);
  a.op(C.Pand_xmm_xmmm128, R.XMM0, R.XMM2);
  a.op(C.Pmovmskb_r32_xmm, R.EAX, R.XMM0);
  a.op(C.Cmp_EAX_imm32, R.EAX, 0xffffn);
  a.op(C.Je_rel32_64, scanNext);
  a.op(C.Xor_r32_rm32, R.R8D, R.R8D);
  const word = a.here('word');
  const wordNext = a.label('wordNext');
  a.op(C.Lea_r64_m, R.R9, at(R.RCX, 0, R.R8, 4));
  a.op(C.Mov_r32_rm32, R.EAX, at(R.RSI, 0, R.R9));
  a.op(C.Mov_r32_rm32, R.R10D, at(R.RDI, 0, R.R9));
  a.op(C.Cmp_r32_rm32, R.EAX, R.R10D);
  a.op(C.Je_rel32_64, wordNext);
  a.op(C.Mov_rm32_r32, at(R.RSI, 0, R.R9), R.R10D);
  a.op(C.Shr_rm32_imm8, R.R9D, 2n);
  a.op(C.Xor_r32_rm32, R.EDX, R.R9D);
  a.op(C.Imul_r32_rm32_imm32, R.EDX, R.EDX, 0x01000193n);
  a.op(C.Xor_r32_rm32, R.EDX, R.EAX);
  a.op(C.Imul_r32_rm32_imm32, R.EDX, R.EDX, 0x01000193n);
  const stored = a.label('stored');
  a.op(C.Cmp_rm32_imm8, R.EBX, BigInt(RESULT_WORDS));
  a.op(C.Jae_rel32_64, stored);
  a.op(C.Mov_rm32_r32, at(R.R12, RESULT.words, R.RBX, 8), R.R9D);
  a.op(C.Mov_rm32_r32, at(R.R12, RESULT.words + 4, R.RBX, 8), R.EAX);
  a.place(stored);
  a.op(C.Inc_rm32, R.EBX);
  a.place(wordNext);
  a.op(C.Inc_rm32, R.R8D);
  a.op(C.Cmp_rm32_imm8, R.R8D, 16n);
  a.op(C.Jne_rel32_64, word);
  a.place(scanNext);
  a.op(C.Add_rm64_imm8, R.RCX, 64n);
  a.op(C.Cmp_rm64_imm32, R.RCX, BigInt(SCRATCH_BYTES));
  a.op(C.Jne_rel32_64, scan);
  a.op(C.Mov_rm32_r32, at(R.R12, RESULT.changed), R.EBX);
  a.op(C.Mov_rm32_r32, at(R.R12, RESULT.hash), R.EDX);
  const clearWords = a.here('clearWords');
  const cleared = a.label('cleared');
  a.op(C.Cmp_rm32_imm8, R.EBX, BigInt(RESULT_WORDS));
  a.op(C.Jae_rel32_64, cleared);
  a.op(C.Mov_rm64_imm32, at(R.R12, RESULT.words, R.RBX, 8), 0n);
  a.op(C.Inc_rm32, R.EBX);
  a.op(C.Jmp_rel32_64, clearWords);
  a.place(cleared);
  // The case's own content goes back to the pattern.
  a.op(C.Mov_r64_rm64, R.RBX, dataAt(casePointer));
  a.op(C.Mov_r32_rm32, R.ECX, at(R.RBX, CASE.patchAt));
  set(R.RDX, master);
  for (let i = 0; i < PATCH_BYTES; i += 16) {
    a.op(C.Movdqu_xmm_xmmm128, R.XMM0, at(R.RDX, i, R.RCX));
    a.op(C.Movdqu_xmmm128_xmm, at(R.RDI, i, R.RCX), R.XMM0);
    a.op(C.Movdqu_xmmm128_xmm, at(R.RSI, i, R.RCX), R.XMM0);
  }
  a.op(C.Add_rm64_imm32, dataAt(casePointer), BigInt(CASE.size));
  a.op(C.Add_rm64_imm32, dataAt(resultPointer), BigInt(RESULT.size));
  a.op(C.Mov_r64_rm64, R.RAX, dataAt(imageStride));
  a.op(C.Add_rm64_r64, dataAt(imagePointer), R.RAX);
  a.op(C.Add_rm64_r64, dataAt(resultImagePointer), R.RAX);
  a.op(C.Dec_rm64, dataAt(remaining));
  a.op(C.Jmp_rel32_64, nextCase);

  // A signal while no case runs: the watchdog's is to be ignored, any other is a defect of this program.
  a.place(outside);
  const ignore = a.label('ignore');
  a.op(C.Cmp_rm32_imm8, R.EDI, BigInt(SIGNAL.SIGPROF));
  a.op(C.Je_rel32_64, ignore);
  call(SYS.exit_group, BigInt(EXIT_HARNESS_FAULT));
  a.place(ignore);
  a.op(C.Retnq);
  a.place(restorer);
  call(SYS.rt_sigreturn);

  // RSI: buffer. RDX: bytes. Clobbers RAX, RCX, RDI, R11.
  const transfer = (label: Label, number: number, descriptor: bigint) => {
    a.place(label);
    const done = a.label('done');
    a.op(C.Test_rm64_r64, R.RDX, R.RDX);
    a.op(C.Je_rel32_64, done);
    call(number, descriptor);
    a.op(C.Test_rm64_r64, R.RAX, R.RAX);
    a.op(C.Jle_rel32_64, exitQuietly);
    a.op(C.Add_r64_rm64, R.RSI, R.RAX);
    a.op(C.Sub_r64_rm64, R.RDX, R.RAX);
    a.op(C.Jmp_rel32_64, label);
    a.place(done);
    a.op(C.Retnq);
  };
  transfer(readExactly, SYS.read, 0n);
  transfer(writeExactly, SYS.write, 1n);
  a.place(exitQuietly);
  call(SYS.exit_group, 0n);
  a.place(noLdt);
  call(SYS.exit_group, BigInt(EXIT_NO_LDT));
  a.place(fail);
  call(SYS.exit_group, BigInt(EXIT_SETUP));
  a.place(textEnd);

  const text = a.assemble(TEXT);
  const entry = text.addresses.get(start);
  if (entry === undefined) throw new Error('no entry point');
  return writeElf(entry, [
    { address: TEXT, data: text.image, writable: false, executable: true },
    {
      address: DATA,
      data: initialized.image,
      memorySize: Number(end - DATA),
      writable: true,
      executable: false,
    },
  ]);
}
