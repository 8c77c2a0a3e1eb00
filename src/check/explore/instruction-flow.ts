/**
 * What an instruction does with general-purpose registers and status flags: which it reads, which it writes, and whether it
 * only moves or compares one. The facts are iced-x86's.
 */
import {
  type ConditionCode,
  Decoder,
  type Instruction,
  type InstructionInfo,
  InstructionInfoFactory,
  MemorySizeExt,
  Mnemonic,
  OpAccess,
  OpKind,
  Register,
  RegisterExt,
  RflagsBits,
  type UsedMemory,
  type UsedRegister,
} from 'iced-x86';

/** Where a quadword stands: in a register, by its number, or in memory. */
export type Place = number | 'memory';

export interface InstructionFlow {
  readonly length: number;
  /** Sets of general-purpose registers, a bit each: read, but for what `move` and `compare` name; written whole; written in part. */
  readonly reads: number;
  readonly writes: number;
  readonly alters: number;
  /** It reads status flags. */
  readonly readsFlags: boolean;
  /** What it does with the status flags: all get new values, or some may. */
  readonly flags: 'kept' | 'set' | 'altered';
  /** Of a conditional jump. */
  readonly condition?: ConditionCode;
  /**
   * A quadword goes unchanged from one place to another. What is in memory, the last access is to. From memory to memory it goes from
   * [RSI] to [RDI], if at all.
   */
  readonly move?: { readonly from: Place; readonly to: Place };
  /** CMP of quadwords; the last access is to what is in memory. */
  readonly compare?: { readonly left: Place; readonly right: Place | bigint };
  /** AND or OR of memory with an immediate: bits of the low dword that may change. */
  readonly mayChange?: number;
  /** Offsets from RSP of quadwords that are loaded into RIP and RFLAGS. */
  readonly rip?: number;
  readonly rflags?: number;
}

/**
 * Instructions whose outcome follows from registers, memory and what a processor's state has: no time, no devices, no caches of
 * translations. RDMSR and WRMSR are among them; for which MSRs, who uses this has to see.
 */
const KNOWN: ReadonlySet<Mnemonic> = new Set([
  ...[
    Mnemonic.Mov,
    Mnemonic.Movzx,
    Mnemonic.Movsx,
    Mnemonic.Movsxd,
    Mnemonic.Lea,
    Mnemonic.Push,
    Mnemonic.Pop,
  ],
  ...[Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.And, Mnemonic.Or, Mnemonic.Xor],
  ...[Mnemonic.Cmp, Mnemonic.Test, Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Neg, Mnemonic.Not, Mnemonic.Imul],
  ...[Mnemonic.Shl, Mnemonic.Shr, Mnemonic.Sar, Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc],
  ...[Mnemonic.Xchg, Mnemonic.Movsb, Mnemonic.Movsq, Mnemonic.Stosb, Mnemonic.Stosq, Mnemonic.Nop],
  ...[Mnemonic.Jmp, Mnemonic.Call, Mnemonic.Ret, Mnemonic.Iretq, Mnemonic.Pushfq, Mnemonic.Popfq],
  ...[
    Mnemonic.Ja,
    Mnemonic.Jae,
    Mnemonic.Jb,
    Mnemonic.Jbe,
    Mnemonic.Je,
    Mnemonic.Jne,
    Mnemonic.Jg,
    Mnemonic.Jge,
  ],
  ...[
    Mnemonic.Jl,
    Mnemonic.Jle,
    Mnemonic.Jo,
    Mnemonic.Jno,
    Mnemonic.Js,
    Mnemonic.Jns,
    Mnemonic.Jp,
    Mnemonic.Jnp,
  ],
  ...[Mnemonic.Seta, Mnemonic.Setae, Mnemonic.Setb, Mnemonic.Setbe, Mnemonic.Sete, Mnemonic.Setne],
  ...[Mnemonic.Cmova, Mnemonic.Cmovae, Mnemonic.Cmovb, Mnemonic.Cmovbe, Mnemonic.Cmove, Mnemonic.Cmovne],
  ...[Mnemonic.Cld, Mnemonic.Std, Mnemonic.Clc, Mnemonic.Stc, Mnemonic.Cli, Mnemonic.Sti, Mnemonic.Pause],
  ...[Mnemonic.Lfence, Mnemonic.Mfence, Mnemonic.Sfence, Mnemonic.Swapgs, Mnemonic.Rdmsr, Mnemonic.Wrmsr],
]);

const STATUS = RflagsBits.CF | RflagsBits.PF | RflagsBits.AF | RflagsBits.ZF | RflagsBits.SF | RflagsBits.OF;
const SHIFTS: ReadonlySet<Mnemonic> = new Set([Mnemonic.Shl, Mnemonic.Shr, Mnemonic.Sar]);

/** Control registers that can be read, and are part of a processor's state and nothing more. */
const PLAIN_CONTROL: ReadonlySet<Register> = new Set([
  Register.CR0,
  Register.CR2,
  Register.CR3,
  Register.CR4,
]);

/** The processor's own registers that a move may name: writes of others have effects of their own. */
function isPlain(register: Register, written: boolean): boolean {
  if (RegisterExt.isDR(register)) return true;
  return written ? register === Register.CR2 : PLAIN_CONTROL.has(register);
}

function bit(register: Register): number {
  return RegisterExt.isGPR(register) ? 1 << RegisterExt.number(RegisterExt.fullRegister(register)) : 0;
}

/**
 * Of the 64-bit code at the beginning of `bytes`; undefined for an instruction that is not understood well enough.
 */
export function instructionFlow(bytes: Uint8Array): InstructionFlow | undefined {
  const decoder = new Decoder(64, bytes, 0);
  const instruction = decoder.decode();
  const factory = new InstructionInfoFactory();
  const info = factory.info(instruction);
  try {
    return KNOWN.has(instruction.mnemonic) ? flowOf(instruction, info) : undefined;
  } finally {
    for (const each of [info, factory, instruction, decoder]) each.free();
  }
}

function flowOf(instruction: Instruction, info: InstructionInfo): InstructionFlow | undefined {
  let [reads, writes, alters] = [0, 0, 0];
  for (const used of info.usedRegisters() as UsedRegister[]) {
    const { register, access } = used;
    used.free();
    if (!RegisterExt.isGPR(register)) {
      const written = access !== OpAccess.Read && access !== OpAccess.CondRead;
      if (RegisterExt.isSegmentRegister(register)) {
        // IRETQ and far transfers load CS and SS from the descriptor tables, which are memory like any other.
        if (written && instruction.mnemonic !== Mnemonic.Iretq) return undefined;
      } else if (!isPlain(register, written)) return undefined;
      continue;
    }
    const at = bit(register);
    if (access !== OpAccess.Write) reads |= at;
    if (access === OpAccess.Read || access === OpAccess.CondRead) continue;
    const whole = RegisterExt.isGPR32(register) || RegisterExt.isGPR64(register);
    if (whole && access !== OpAccess.CondWrite && access !== OpAccess.ReadCondWrite) writes |= at;
    else alters |= at;
  }
  const { length, mnemonic } = instruction;
  const move = moveOf(instruction, info);
  const compare = compareOf(instruction);
  // Registers that are moved or compared count as read only if an address is made of them.
  let addressed = 0;
  for (const memory of info.usedMemory() as UsedMemory[]) {
    addressed |= bit(memory.base) | bit(memory.index);
    memory.free();
  }
  let seen = 0;
  for (const place of [move?.from, compare?.left, compare?.right])
    if (typeof place === 'number') seen |= 1 << place;
  const mayChange = mayChangeOf(instruction);
  return {
    length,
    reads: reads & ~(seen & ~addressed),
    writes,
    alters,
    readsFlags: (instruction.rflagsRead & STATUS) !== 0,
    flags: flagsOf(instruction),
    ...(instruction.isJccShortOrNear && { condition: instruction.conditionCode }),
    ...(move && { move }),
    ...(compare && { compare }),
    ...(mayChange !== undefined && { mayChange }),
    ...((mnemonic === Mnemonic.Iretq || mnemonic === Mnemonic.Ret) && { rip: 0 }),
    ...(mnemonic === Mnemonic.Iretq && { rflags: 16 }),
    ...(mnemonic === Mnemonic.Popfq && { rflags: 0 }),
  };
}

/** Undefined flags follow the result of an instruction of this set, and of no other. */
const BY_RESULT: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.And,
  Mnemonic.Or,
  Mnemonic.Xor,
  Mnemonic.Test,
  Mnemonic.Imul,
]);

function flagsOf(instruction: Instruction): InstructionFlow['flags'] {
  const { mnemonic, rflagsWritten, rflagsCleared, rflagsSet, rflagsUndefined, rflagsModified } = instruction;
  if ((rflagsModified & STATUS) === 0) return 'kept';
  // A shift by 0 leaves them alone.
  if (SHIFTS.has(mnemonic)) return 'altered';
  const told = rflagsWritten | rflagsCleared | rflagsSet | (BY_RESULT.has(mnemonic) ? rflagsUndefined : 0);
  return (told & STATUS) === STATUS ? 'set' : 'altered';
}

function compareOf(instruction: Instruction): InstructionFlow['compare'] {
  const { mnemonic, op0Kind, op1Kind, op0Register, op1Register, memorySize } = instruction;
  if (mnemonic !== Mnemonic.Cmp) return undefined;
  const place = (kind: OpKind, register: Register): Place | undefined => {
    if (kind === OpKind.Register)
      return RegisterExt.isGPR64(register) ? RegisterExt.number(register) : undefined;
    return kind === OpKind.Memory && MemorySizeExt.size(memorySize) === 8 ? 'memory' : undefined;
  };
  const left = place(op0Kind, op0Register);
  if (left === undefined) return undefined;
  const immediate = op1Kind === OpKind.Immediate8to64 || op1Kind === OpKind.Immediate32to64;
  const right = immediate ? BigInt.asUintN(64, instruction.immediate(1)) : place(op1Kind, op1Register);
  return right === undefined ? undefined : { left, right };
}

function mayChangeOf(instruction: Instruction): number | undefined {
  const { mnemonic, op0Kind, op1Kind, memorySize } = instruction;
  if ((mnemonic !== Mnemonic.And && mnemonic !== Mnemonic.Or) || op0Kind !== OpKind.Memory) return undefined;
  const size = MemorySizeExt.size(memorySize);
  if (op1Kind === OpKind.Register || op1Kind === OpKind.Memory || (size !== 4 && size !== 8))
    return undefined;
  const low = Number(BigInt.asUintN(32, instruction.immediate(1)));
  return mnemonic === Mnemonic.Or ? low : ~low;
}

/** Of MOV, PUSH and POP of 64 bits between registers and memory. */
function moveOf(instruction: Instruction, info: InstructionInfo): InstructionFlow['move'] {
  const { mnemonic, op0Kind, op1Kind, op0Register, op1Register } = instruction;
  const wide = (register: Register) => RegisterExt.isGPR64(register);
  const quadword = () => {
    const used = info.usedMemory() as UsedMemory[];
    const fits = used.length === 1 && MemorySizeExt.size(used[0].memorySize) === 8;
    for (const memory of used) memory.free();
    return fits;
  };
  if (mnemonic === Mnemonic.Push || mnemonic === Mnemonic.Pop) {
    if (op0Kind !== OpKind.Register || !wide(op0Register) || !quadword()) return undefined;
    const register = RegisterExt.number(op0Register);
    return mnemonic === Mnemonic.Push ? { from: register, to: 'memory' } : { from: 'memory', to: register };
  }
  if (mnemonic === Mnemonic.Movsq) return { from: 'memory', to: 'memory' };
  if (mnemonic !== Mnemonic.Mov) return undefined;
  const to = op0Kind === OpKind.Register ? op0Register : undefined;
  const from = op1Kind === OpKind.Register ? op1Register : undefined;
  if (to !== undefined && !wide(to)) return undefined;
  if (from !== undefined && !wide(from)) return undefined;
  if (to !== undefined && from !== undefined)
    return { from: RegisterExt.number(from), to: RegisterExt.number(to) };
  if (to !== undefined && op1Kind === OpKind.Memory && quadword())
    return { from: 'memory', to: RegisterExt.number(to) };
  if (from !== undefined && op0Kind === OpKind.Memory && quadword())
    return { from: RegisterExt.number(from), to: 'memory' };
  return undefined;
}
