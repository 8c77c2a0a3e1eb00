/**
 * A native Linux program that measures IRETQ at CPL 3: which bits of the stack pointer it restores for each kind
 * of code and stack segment, and what it raises for frames that it must refuse.
 *
 * In 64-bit mode IRETQ pops SS:RSP even without a change of privilege (SDM vol. 2A "IRET"), so that an ordinary
 * program can ask. The program loads, runs every experiment and writes one record each to standard output;
 * the same file runs on a processor and on the machine (personality.ts).
 */
import { Code as C, Register as R } from 'iced-x86';
import { Assembler, absolute, addressOf, at, type Label } from './assembler.ts';
import { writeElf } from './elf.ts';
import {
  encodeUserDescriptor,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MODIFY_LDT_WRITE,
  PROT_READ,
  PROT_WRITE,
  SA_NODEFER,
  SA_ONSTACK,
  SA_RESTORER,
  SA_SIGINFO,
  SIGCONTEXT,
  SIGNAL,
  SYS,
  UC_MCONTEXT,
  USER_CS,
  USER_DS,
  USER32_CS,
  type UserDescriptor,
} from './linux-abi.ts';

/** Below 4 GiB, where 32- and 16-bit code reaches it. */
const TEXT = 0x400000n;
const DATA = 0x600000n;
/** The stack that IRETQ runs on: above 4 GiB, with bits 31:16 unlike those of any frame. */
const STACK = 0x7ffc_1234_0000n;
const STACK_BYTES = 0x8000;

/** The stack pointer in the frame. */
export const FRAME_RSP = 0x8bad_f00d_5aad_c0den;

const FLAT = { base: 0, limit: 0xfffff, pages: true } as const;
const LDT: readonly UserDescriptor[] = [
  { ...FLAT, bits32: false, type: 'data' }, // 07
  { ...FLAT, bits32: true, type: 'data' }, // 0f
  { ...FLAT, bits32: false, type: 'code' }, // 17
  { ...FLAT, bits32: true, type: 'code' }, // 1f
  { ...FLAT, bits32: false, type: 'data', absent: true }, // 27
  { ...FLAT, bits32: true, type: 'code', absent: true }, // 2f
  { ...FLAT, bits32: true, type: 'data', restricted: true }, // 37
  { base: 0, limit: 0xffff, bits32: true, type: 'code' }, // 3f
];

/** Where an experiment's RIP points. */
type Target = 'target64' | 'target32' | 'target16' | 'noncanonical' | 'highest';

/** One IRETQ. */
export interface Experiment {
  readonly code: string;
  readonly stack: string;
  readonly cs: number;
  readonly ss: number;
  readonly target: Target;
  readonly rsp: bigint;
  readonly rflags: bigint;
  /** What is out of order about the frame, for those to be refused. */
  readonly fault?: string;
}

const CODE_KINDS = [
  { code: '64-bit GDT 33', cs: USER_CS, target: 'target64' },
  { code: '32-bit GDT 23', cs: USER32_CS, target: 'target32' },
  { code: '32-bit LDT 1f', cs: 0x1f, target: 'target32' },
  { code: '16-bit LDT 17', cs: 0x17, target: 'target16' },
] as const;
const STACK_KINDS = [
  { stack: '16-bit LDT 07', ss: 0x07 },
  { stack: '32-bit LDT 0f', ss: 0x0f },
  { stack: 'flat GDT 2b', ss: USER_DS },
] as const;

const USUAL = { rsp: FRAME_RSP, rflags: 0x202n } as const;

/** The stack pointer restored, by code and stack segment: the table of the defect. */
export const returns: readonly Experiment[] = CODE_KINDS.flatMap((code) =>
  STACK_KINDS.map((stack) => ({ ...code, ...stack, ...USUAL })),
);

const to64 = { code: '64-bit GDT 33', cs: USER_CS, target: 'target64', ...USUAL } as const;
const to32 = { code: '32-bit GDT 23', cs: USER32_CS, target: 'target32', ...USUAL } as const;
const flat = { stack: 'flat GDT 2b', ss: USER_DS } as const;

/** Frames that IRETQ refuses, or might be thought to. */
export const refusals: readonly Experiment[] = [
  { ...to64, stack: 'LDT 27', ss: 0x27, fault: 'SS not present' },
  { ...to32, stack: 'LDT 27', ss: 0x27, fault: 'SS not present' },
  { ...to64, stack: '0', ss: 0, fault: 'SS null' },
  { ...to32, stack: '3', ss: 3, fault: 'SS null with RPL 3' },
  { ...to64, stack: 'LDT 1f', ss: 0x1f, fault: 'SS a code segment' },
  { ...to64, stack: 'LDT 37', ss: 0x37, fault: 'SS read-only data' },
  { ...to64, stack: 'GDT 18', ss: 0x18, fault: 'SS the kernel’s' },
  { ...to64, stack: 'GDT 1b', ss: 0x1b, fault: 'SS of DPL 0' },
  { ...to64, stack: 'GDT 28', ss: 0x28, fault: 'SS of RPL 0' },
  { ...to64, stack: 'LDT fff7', ss: 0xfff7, fault: 'SS beyond the LDT' },
  { ...to64, stack: 'GDT fff3', ss: 0xfff3, fault: 'SS beyond the GDT' },
  { ...to64, ...flat, code: '0', cs: 0, fault: 'CS null' },
  { ...to64, ...flat, code: 'GDT 2b', cs: USER_DS, fault: 'CS a data segment' },
  { ...to64, ...flat, code: 'LDT 2f', cs: 0x2f, fault: 'CS not present' },
  { ...to64, ...flat, code: 'GDT 10', cs: 0x10, fault: 'CS the kernel’s' },
  { ...to64, ...flat, code: 'GDT 13', cs: 0x13, fault: 'CS of DPL 0' },
  { ...to64, ...flat, code: 'LDT fff7', cs: 0xfff7, fault: 'CS beyond the LDT' },
  { ...to32, stack: 'LDT 27', ss: 0x27, code: 'LDT 2f', cs: 0x2f, fault: 'CS and SS not present' },
  { ...to64, ...flat, target: 'noncanonical', fault: 'RIP not canonical' },
  { ...to64, stack: 'LDT 27', ss: 0x27, target: 'noncanonical', fault: 'RIP not canonical, SS not present' },
  { ...to32, ...flat, code: 'LDT 3f', cs: 0x3f, fault: 'EIP beyond CS.limit' },
  { ...to32, ...flat, target: 'highest', fault: 'EIP at an unmapped page' },
  { ...to64, ...flat, rsp: 0x8000_0000_0000n, fault: 'RSP not canonical' },
  { ...to64, ...flat, rflags: 0x3202n, fault: 'IOPL 3 in RFLAGS' },
];

/** All experiments, in the order of the records. */
export const experiments: readonly Experiment[] = [...returns, ...refusals];

/** Offsets in a record of 64 bytes, 64 bits each. */
const RECORD = {
  before: 0,
  atTarget: 8,
  after: 16,
  trapno: 24,
  err: 32,
  rip: 40,
  rflags: 48,
  size: 64,
} as const;
const EXPERIMENT_BYTES = 40;
/** `trapno` of a return that succeeded. */
const RETURNED = 0xffn;

/** What became of an experiment. */
export interface Outcome {
  /** RSP when IRETQ ran. */
  readonly before: bigint;
  /** The stack pointer found at the target, and then in 64-bit code; absent if IRETQ faulted. */
  readonly atTarget?: bigint;
  readonly after?: bigint;
  readonly rflags?: bigint;
  /** The exception and error code, and whether its RIP was the IRETQ's own. */
  readonly vector?: number;
  readonly error?: number;
  readonly atIret?: boolean;
}

/** The program's ELF image, and where its IRETQ stands. */
export function buildIretProgram(): { readonly image: Uint8Array; readonly iret: bigint } {
  const a = new Assembler();
  const d = new Assembler();
  const variable = (name: string, bytes: number): Label => {
    d.align(8);
    const label = d.here(name);
    d.space(bytes);
    return label;
  };
  const frame = variable('frame', EXPERIMENT_BYTES);
  const atTarget = variable('atTarget', 8);
  const after = variable('after', 8);
  const before = variable('before', 8);
  const stack = variable('stack', 8);
  const trapno = variable('trapno', 8);
  const err = variable('err', 8);
  const faultRip = variable('faultRip', 8);
  const rflags = variable('rflags', 8);
  const action = variable('action', 32);
  d.align(8);
  const alternateStack = d.here('alternateStack');
  const alternateBase = variable('alternateBase', 8);
  d.space(8);
  const alternateSize = variable('alternateSize', 8);
  d.align(16);
  const descriptors = d.here('descriptors');
  LDT.forEach((descriptor, entry) => {
    d.bytes(...encodeUserDescriptor(entry, descriptor));
  });
  const table = d.here('table');
  d.space(experiments.length * EXPERIMENT_BYTES);
  const records = d.here('records');
  d.space(experiments.length * RECORD.size);
  d.align(16);
  const signalStack = d.here('signalStack');
  const signalStackBytes = 0x8000;
  d.space(signalStackBytes);
  const data = d.assemble(DATA);
  const addressIn = (addresses: Map<Label, bigint>, label: Label): bigint => {
    const address = addresses.get(label);
    if (address === undefined) throw new Error(`no address for ${label.name}`);
    return address;
  };
  const place = (label: Label) => Number(addressIn(data.addresses, label));
  const variableAt = (label: Label, offset = 0) => absolute(place(label) + offset);
  /** In 64-bit code an absolute address needs no base register either. */
  const arguments_ = [R.RDI, R.RSI, R.RDX, R.R10, R.R8, R.R9];
  const call = (number: number, ...values: bigint[]) => {
    values.forEach((value, i) => {
      a.op(C.Mov_r64_imm64, arguments_[i], BigInt.asUintN(64, value));
    });
    a.op(C.Mov_r32_imm32, R.EAX, BigInt(number));
    a.op(C.Syscall);
  };
  const fail = a.label('fail');
  const orFail = () => {
    a.op(C.Test_rm64_r64, R.RAX, R.RAX);
    a.op(C.Js_rel32_64, fail);
  };

  const start = a.here('start');
  call(
    SYS.mmap,
    STACK,
    BigInt(STACK_BYTES),
    BigInt(PROT_READ | PROT_WRITE),
    BigInt(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED),
    -1n,
    0n,
  );
  orFail();
  a.op(C.Mov_r64_imm64, R.RSP, STACK + BigInt(STACK_BYTES - 0x100));
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(place(signalStack)));
  a.op(C.Mov_rm64_r64, variableAt(alternateBase), R.RAX);
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(signalStackBytes));
  a.op(C.Mov_rm64_r64, variableAt(alternateSize), R.RAX);
  call(SYS.sigaltstack, BigInt(place(alternateStack)), 0n);
  orFail();
  const handler = a.label('handler');
  const restorer = a.label('restorer');
  a.op(C.Mov_r32_imm32, R.EAX, addressOf(handler));
  a.op(C.Mov_rm64_r64, variableAt(action), R.RAX);
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER));
  a.op(C.Mov_rm64_r64, variableAt(action, 8), R.RAX);
  a.op(C.Mov_r32_imm32, R.EAX, addressOf(restorer));
  a.op(C.Mov_rm64_r64, variableAt(action, 16), R.RAX);
  for (const signal of [SIGNAL.SIGILL, SIGNAL.SIGTRAP, SIGNAL.SIGBUS, SIGNAL.SIGFPE, SIGNAL.SIGSEGV]) {
    call(SYS.rt_sigaction, BigInt(signal), BigInt(place(action)), 0n, 8n);
    orFail();
  }
  const noLdt = a.label('noLdt');
  LDT.forEach((_, entry) => {
    call(SYS.modify_ldt, BigInt(MODIFY_LDT_WRITE), BigInt(place(descriptors) + entry * 16), 16n);
    a.op(C.Test_rm32_r32, R.EAX, R.EAX);
    a.op(C.Jne_rel32_64, noLdt);
  });

  // R12: experiment. R13: its record. R14: how many are left.
  a.op(C.Mov_r32_imm32, R.R12D, BigInt(place(table)));
  a.op(C.Mov_r32_imm32, R.R13D, BigInt(place(records)));
  a.op(C.Mov_r32_imm32, R.R14D, BigInt(experiments.length));
  const next = a.here('next');
  for (let i = 0; i < EXPERIMENT_BYTES; i += 8) {
    a.op(C.Mov_r64_rm64, R.RAX, at(R.R12, i));
    a.op(C.Mov_rm64_r64, variableAt(frame, i), R.RAX);
  }
  a.op(C.Xor_r32_rm32, R.EAX, R.EAX);
  for (const label of [atTarget, after, trapno, err, faultRip, rflags])
    a.op(C.Mov_rm64_r64, variableAt(label), R.RAX);
  // 32-bit code reaches its data through DS.
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(USER_DS));
  a.op(C.Mov_Sreg_r32m16, R.DS, R.EAX);
  a.op(C.Mov_Sreg_r32m16, R.ES, R.EAX);
  a.op(C.Mov_rm64_r64, variableAt(stack), R.RSP);
  for (let i = EXPERIMENT_BYTES - 8; i >= 0; i -= 8) a.op(C.Push_rm64, variableAt(frame, i));
  a.op(C.Mov_rm64_r64, variableAt(before), R.RSP);
  const iretq = a.here('iretq');
  a.op(C.Iretq);

  const target64 = a.here('target64');
  const back = a.label('back');
  const done = a.label('done');
  a.op(C.Mov_rm64_r64, variableAt(atTarget), R.RSP);
  a.op(C.Jmp_rel32_64, back);
  a.bits(32);
  const target32 = a.here('target32');
  a.op(C.Mov_rm32_r32, variableAt(atTarget), R.ESP);
  a.farJump(C.Jmp_ptr1632, USER_CS, back);
  a.bits(16);
  const target16 = a.here('target16');
  a.op(C.Mov_rm32_r32, variableAt(atTarget), R.ESP);
  a.farJump(C.Jmp_ptr1632, USER_CS, back);
  a.bits(64);
  a.place(back);
  a.op(C.Mov_rm64_r64, variableAt(after), R.RSP);
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(USER_DS));
  a.op(C.Mov_Sreg_r32m16, R.SS, R.EAX);
  a.op(C.Mov_r64_rm64, R.RSP, variableAt(stack));
  a.op(C.Pushfq);
  a.op(C.Pop_rm64, variableAt(rflags));
  a.op(C.Mov_r32_imm32, R.EAX, RETURNED);
  a.op(C.Mov_rm64_r64, variableAt(trapno), R.RAX);

  a.place(done);
  const copies: [Label, number][] = [
    [before, RECORD.before],
    [atTarget, RECORD.atTarget],
    [after, RECORD.after],
    [trapno, RECORD.trapno],
    [err, RECORD.err],
    [faultRip, RECORD.rip],
    [rflags, RECORD.rflags],
  ];
  for (const [label, offset] of copies) {
    a.op(C.Mov_r64_rm64, R.RAX, variableAt(label));
    a.op(C.Mov_rm64_r64, at(R.R13, offset), R.RAX);
  }
  a.op(C.Add_rm64_imm8, R.R12, BigInt(EXPERIMENT_BYTES));
  a.op(C.Add_rm64_imm8, R.R13, BigInt(RECORD.size));
  a.op(C.Dec_rm32, R.R14D);
  a.op(C.Jne_rel32_64, next);
  call(SYS.write, 1n, BigInt(place(records)), BigInt(experiments.length * RECORD.size));
  call(SYS.exit_group, 0n);
  a.place(noLdt);
  call(SYS.exit_group, 2n);
  a.place(fail);
  call(SYS.exit_group, 3n);

  // handler(signal, siginfo, ucontext): notes the fault and has sigreturn go on behind the experiment.
  a.place(handler);
  a.op(C.Lea_r64_m, R.RSI, at(R.RDX, UC_MCONTEXT));
  for (const [label, offset] of [
    [trapno, SIGCONTEXT.trapno],
    [err, SIGCONTEXT.err],
    [faultRip, SIGCONTEXT.rip],
  ] as const) {
    a.op(C.Mov_r64_rm64, R.RAX, at(R.RSI, offset));
    a.op(C.Mov_rm64_r64, variableAt(label), R.RAX);
  }
  a.op(C.Mov_r32_imm32, R.EAX, addressOf(done));
  a.op(C.Mov_rm64_r64, at(R.RSI, SIGCONTEXT.rip), R.RAX);
  a.op(C.Mov_r64_rm64, R.RAX, variableAt(stack));
  a.op(C.Mov_rm64_r64, at(R.RSI, SIGCONTEXT.gpr[4]), R.RAX);
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(USER_CS));
  a.op(C.Mov_rm16_r16, at(R.RSI, SIGCONTEXT.cs), R.AX);
  a.op(C.Mov_r32_imm32, R.EAX, BigInt(USER_DS));
  a.op(C.Mov_rm16_r16, at(R.RSI, SIGCONTEXT.ss), R.AX);
  a.op(C.Mov_r32_imm32, R.EAX, 0x202n);
  a.op(C.Mov_rm64_r64, at(R.RSI, SIGCONTEXT.rflags), R.RAX);
  a.op(C.Retnq);
  a.place(restorer);
  call(SYS.rt_sigreturn);

  const text = a.assemble(TEXT);
  const labels = { target64, target32, target16 };
  const view = new DataView(data.image.buffer, data.image.byteOffset);
  experiments.forEach((experiment, i) => {
    const base = place(table) - Number(DATA) + i * EXPERIMENT_BYTES;
    const { target } = experiment;
    const rip =
      target === 'noncanonical'
        ? 0x8000_0000_0000n
        : target === 'highest'
          ? 0xffff_f000n
          : addressIn(text.addresses, labels[target]);
    const values = [rip, BigInt(experiment.cs), experiment.rflags, experiment.rsp, BigInt(experiment.ss)];
    values.forEach((value, k) => {
      view.setBigUint64(base + k * 8, value, true);
    });
  });
  const image = writeElf(addressIn(text.addresses, start), [
    { address: TEXT, data: text.image, writable: false, executable: true },
    { address: DATA, data: data.image, writable: true, executable: false },
  ]);
  return { image, iret: addressIn(text.addresses, iretq) };
}

/**
 * Reads what the program wrote. Throws RangeError if that is not of the length that it should be.
 * @param iret where the program's IRETQ stands
 */
export function readOutcomes(output: Uint8Array, iret: bigint): Outcome[] {
  if (output.length !== experiments.length * RECORD.size)
    throw new RangeError(`the program wrote ${output.length} bytes, not ${experiments.length * RECORD.size}`);
  const view = new DataView(output.buffer, output.byteOffset, output.length);
  return experiments.map((_, i) => {
    const get = (offset: number) => view.getBigUint64(i * RECORD.size + offset, true);
    const trapno = get(RECORD.trapno);
    const before = get(RECORD.before);
    if (trapno === RETURNED)
      return { before, atTarget: get(RECORD.atTarget), after: get(RECORD.after), rflags: get(RECORD.rflags) };
    return {
      before,
      vector: Number(trapno),
      error: Number(get(RECORD.err)),
      atIret: get(RECORD.rip) === iret,
    };
  });
}
