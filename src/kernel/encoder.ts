/**
 * Machine code of single instructions, by iced-x86. The only file that touches that library: its npm package
 * loads WebAssembly through Node's file system, so a browser bundle replaces this module alone.
 */

import {
  Code,
  CodeExt,
  Encoder,
  Register as IcedRegister,
  Instruction,
  Mnemonic,
  type OpCodeInfo,
  OpCodeOperandKind,
  OpKind,
} from 'iced-x86';
import type { Memory, Operand, Register, Width } from './operands.ts';

/** The width of the code segment that the code runs in (SDM Vol. 1, Section 3.3: D and L bits). */
export type CodeBits = 16 | 32 | 64;

export type Prefix = 'lock' | 'rep' | 'repe' | 'repne';

/** Where a constant lies in an encoded instruction, in bytes. */
export interface Field {
  readonly offset: number;
  readonly size: number;
}

/** Bytes of an instruction, and where its displacement and immediate are, for symbols filled in later. */
export interface Encoded {
  readonly bytes: Uint8Array;
  readonly displacement: Field | undefined;
  readonly immediate: Field | undefined;
}

/** An instruction form that takes operands of certain kinds. */
interface Form {
  readonly code: Code;
  readonly kinds: readonly string[];
  readonly info: OpCodeInfo;
}

const codeNames = Object.keys(Code)
  .filter((name) => Number.isNaN(Number(name)))
  .map((name) => ({ name, lower: name.toLowerCase() }));
const mnemonics = new Map(Object.entries(Mnemonic).map(([name, value]) => [name.toLowerCase(), value]));
const formsByMnemonic = new Map<string, readonly Form[]>();

function formsOf(mnemonic: string): readonly Form[] {
  const known = formsByMnemonic.get(mnemonic);
  if (known !== undefined) return known;
  const wanted = mnemonics.get(mnemonic);
  const forms: Form[] = [];
  for (const { name, lower } of codeNames) {
    if (!lower.startsWith(mnemonic)) continue;
    const code = Code[name as keyof typeof Code];
    const info = CodeExt.opCode(code);
    // Some mnemonics, RETFQ for one, are only names of an operand size of another: the code's name says it.
    if (info.mnemonic !== wanted && lower.split('_')[0] !== mnemonic) continue;
    const kinds = Array.from({ length: info.opCount }, (_, i) => OpCodeOperandKind[info.opKind(i)]);
    forms.push({ code, kinds, info });
  }
  if (forms.length === 0) throw new RangeError(`unknown mnemonic "${mnemonic}"`);
  formsByMnemonic.set(mnemonic, forms);
  return forms;
}

const icedRegisters = new Map(
  Object.entries(IcedRegister)
    .filter(([name]) => Number.isNaN(Number(name)))
    .map(([name, value]) => [name.toLowerCase(), value as IcedRegister]),
);

function icedRegister(register: Register | undefined): IcedRegister {
  if (register === undefined) return IcedRegister.None;
  const found = icedRegisters.get(register.name);
  if (found === undefined) throw new RangeError(`unknown register ${register.name}`);
  return found;
}

/** Whether a symbol's value, not known yet, is to stand in the operand. */
const isSymbol = (operand: Operand) => typeof operand === 'object' && operand.kind === 'symbol';

/** Whether `value` is representable, signed or unsigned, in `bits`. */
const fits = (value: bigint, bits: number) =>
  BigInt.asIntN(bits, value) === value || BigInt.asUintN(bits, value) === value;
const fitsSigned = (value: bigint, bits: number) => BigInt.asIntN(bits, value) === value;

/**
 * Immediates that a sign-extended field of `from` bits can say for an operand of `to` bits: those that come
 * out right when the result is read as an unsigned or a signed number of `to` bits.
 */
const fitsExtended = (value: bigint, from: number, to: number) =>
  fits(value, to) && fitsSigned(BigInt.asIntN(to, value), from);

const immediateKinds: Record<string, { kind: OpKind; accepts: (value: bigint) => boolean; symbol: boolean }> =
  {
    imm8: { kind: OpKind.Immediate8, accepts: (v) => fits(v, 8), symbol: false },
    imm8_const_1: { kind: OpKind.Immediate8, accepts: (v) => v === 1n, symbol: false },
    imm8sex16: { kind: OpKind.Immediate8to16, accepts: (v) => fitsExtended(v, 8, 16), symbol: false },
    imm8sex32: { kind: OpKind.Immediate8to32, accepts: (v) => fitsExtended(v, 8, 32), symbol: false },
    imm8sex64: { kind: OpKind.Immediate8to64, accepts: (v) => fitsExtended(v, 8, 64), symbol: false },
    imm16: { kind: OpKind.Immediate16, accepts: (v) => fits(v, 16), symbol: true },
    imm32: { kind: OpKind.Immediate32, accepts: (v) => fits(v, 32), symbol: true },
    imm32sex64: { kind: OpKind.Immediate32to64, accepts: (v) => fitsExtended(v, 32, 64), symbol: true },
    imm64: { kind: OpKind.Immediate64, accepts: (v) => fits(v, 64), symbol: true },
  };

/** The number of bits of a kind such as `r64_or_mem` or `r32_reg`; undefined for other kinds. */
function generalKind(kind: string): { bits: number; memory: boolean } | undefined {
  const match = /^r(8|16|32|64)_(or_mem|reg|opcode|rm|reg_mem|vvvv)$/.exec(kind);
  return match ? { bits: Number(match[1]), memory: match[2] === 'or_mem' } : undefined;
}

function accepts(kind: string, operand: Operand, widthKnown: boolean): boolean {
  if (typeof operand === 'number' || typeof operand === 'bigint')
    return immediateKinds[kind]?.accepts(BigInt(operand)) ?? false;
  if (operand.kind === 'symbol') {
    return immediateKinds[kind]?.symbol ?? false;
  }
  const generalRegister = generalKind(kind);
  if (operand.kind === 'memory') {
    if (kind === 'mem') return true;
    if (generalRegister?.memory !== true) return false;
    return operand.bits === undefined ? widthKnown : operand.bits === generalRegister.bits;
  }
  switch (operand.class) {
    case 'general':
      return kind === operand.name || generalRegister?.bits === operand.bits;
    case 'segment':
      return kind === 'seg_reg' || kind === operand.name;
    case 'control':
      return kind === 'cr_reg';
    case 'debug':
      return kind === 'dr_reg';
    case 'rip':
      return false;
  }
}

const encoders = new Map<CodeBits, Encoder>();

function encoderFor(bits: CodeBits): Encoder {
  let encoder = encoders.get(bits);
  if (encoder === undefined) {
    encoder = new Encoder(bits);
    encoders.set(bits, encoder);
  }
  return encoder;
}

const setPrefix: Record<Prefix, (instruction: Instruction) => void> = {
  lock: (instruction) => {
    instruction.hasLockPrefix = true;
  },
  rep: (instruction) => {
    instruction.hasRepPrefix = true;
  },
  repe: (instruction) => {
    instruction.hasRepePrefix = true;
  },
  repne: (instruction) => {
    instruction.hasRepnePrefix = true;
  },
};

/** Writes `operand` into the instruction's operand `i`, which is of the given kind. */
function setOperand(
  instruction: Instruction,
  i: number,
  kind: string,
  operand: Operand,
  bits: CodeBits,
): void {
  if (typeof operand === 'number' || typeof operand === 'bigint' || operand.kind === 'symbol') {
    const value = typeof operand === 'object' ? 0n : BigInt(operand);
    instruction.setOpKind(i, immediateKinds[kind].kind);
    const narrow = /^imm8sex(16|32)$/.exec(kind);
    if (narrow) instruction.setImmediateI32(i, Number(BigInt.asIntN(Number(narrow[1]), value)));
    else if (kind === 'imm8' || kind === 'imm8_const_1')
      instruction.setImmediateU32(i, Number(BigInt.asUintN(8, value)));
    else if (kind === 'imm16') instruction.setImmediateU32(i, Number(BigInt.asUintN(16, value)));
    else if (kind === 'imm32') instruction.setImmediateU32(i, Number(BigInt.asUintN(32, value)));
    else instruction.setImmediateI64(i, BigInt.asIntN(64, value));
  } else if (operand.kind === 'register') {
    instruction.setOpKind(i, OpKind.Register);
    instruction.setOpRegister(i, icedRegister(operand));
  } else {
    setMemory(instruction, i, operand, bits);
  }
}

function setMemory(instruction: Instruction, i: number, operand: Memory, bits: CodeBits): void {
  instruction.setOpKind(i, OpKind.Memory);
  instruction.segmentPrefix = icedRegister(operand.segment);
  const base = operand.base;
  instruction.memoryBase = icedRegister(base);
  instruction.memoryIndex = icedRegister(operand.index?.register);
  instruction.memoryIndexScale = operand.index?.scale ?? 1;
  const ripRelative =
    bits === 64 && operand.symbol !== undefined && base === undefined && operand.index === undefined;
  if (ripRelative && operand.segment === undefined) {
    instruction.memoryBase = IcedRegister.RIP;
    instruction.memoryDisplSize = 8;
    instruction.memoryDisplacement = 0n;
    return;
  }
  const addressBits = base?.bits ?? operand.index?.register.bits ?? (bits === 16 ? 32 : bits);
  if (operand.symbol !== undefined || (base === undefined && operand.index === undefined)) {
    instruction.memoryDisplSize = addressBits === 64 ? 8 : addressBits / 8;
  } else if (operand.displacement === 0n) {
    instruction.memoryDisplSize = 0;
  } else {
    instruction.memoryDisplSize = fitsSigned(operand.displacement, 8)
      ? 1
      : addressBits === 64
        ? 8
        : addressBits / 8;
  }
  instruction.memoryDisplacement =
    operand.symbol === undefined ? BigInt.asIntN(64, operand.displacement) : 0n;
}

/** Operands that string instructions name by nothing but their mnemonic (SDM Vol. 1, Section 7.3.9). */
const isImplicit = (kind: string) => /^(es_rDI|seg_rSI|al|ax|eax|rax)$/.test(kind);

function setImplicit(instruction: Instruction, i: number, kind: string, bits: CodeBits): void {
  if (kind === 'es_rDI')
    instruction.setOpKind(
      i,
      bits === 64 ? OpKind.MemoryESRDI : bits === 32 ? OpKind.MemoryESEDI : OpKind.MemoryESDI,
    );
  else if (kind === 'seg_rSI')
    instruction.setOpKind(
      i,
      bits === 64 ? OpKind.MemorySegRSI : bits === 32 ? OpKind.MemorySegESI : OpKind.MemorySegSI,
    );
  else {
    instruction.setOpKind(i, OpKind.Register);
    instruction.setOpRegister(i, icedRegisters.get(kind) ?? IcedRegister.None);
  }
}

const describe = (operand: Operand): string =>
  typeof operand !== 'object'
    ? String(operand)
    : operand.kind === 'register'
      ? operand.name
      : operand.kind === 'symbol'
        ? operand.name
        : `memory${operand.bits ?? ''}`;

const field = (present: boolean, offset: number, size: number): Field | undefined =>
  present && size > 0 ? { offset, size } : undefined;

function encodeForm(
  form: Form,
  bits: CodeBits,
  operands: readonly Operand[],
  prefix: Prefix | undefined,
): Encoded | undefined {
  const instruction = new Instruction();
  const encoder = encoderFor(bits);
  try {
    instruction.code = form.code;
    if (operands.length === 0)
      for (const [i, kind] of form.kinds.entries()) setImplicit(instruction, i, kind, bits);
    for (const [i, operand] of operands.entries()) setOperand(instruction, i, form.kinds[i], operand, bits);
    if (prefix !== undefined) setPrefix[prefix](instruction);
    encoder.encode(instruction, 0n);
    const bytes = encoder.takeBuffer();
    const constants = encoder.getConstantOffsets();
    const encoded: Encoded = {
      bytes,
      displacement: field(
        constants.hasDisplacement,
        constants.displacementOffset,
        constants.displacementSize,
      ),
      immediate: field(constants.hasImmediate, constants.immediateOffset, constants.immediateSize),
    };
    constants.free();
    return encoded;
  } catch {
    // The encoder refuses what this form cannot say; another form may.
    encoder.takeBuffer();
    return undefined;
  } finally {
    instruction.free();
  }
}

/**
 * Encodes one instruction in its shortest form. Symbols become zero, in a field wide enough for an address.
 * Raises a RangeError when no form takes these operands, or when the operand width is not told.
 */
export function encodeInstruction(
  bits: CodeBits,
  mnemonic: string,
  operands: readonly Operand[],
  prefix?: Prefix,
): Encoded {
  const widthKnown = operands.some(
    (o) => typeof o === 'object' && o.kind === 'register' && o.class !== 'control',
  );
  // An immediate alone tells no width: PUSH means the code's own, not the one with the shortest encoding.
  const immediateOnly =
    operands.length > 0 && operands.every((o) => typeof o !== 'object' || o.kind === 'symbol');
  let best: Encoded | undefined;
  for (const form of formsOf(mnemonic)) {
    const implicit = operands.length === 0 && form.kinds.every(isImplicit);
    if (!implicit && form.kinds.length !== operands.length) continue;
    if (bits === 64 ? !form.info.mode64 : bits === 32 ? !form.info.mode32 : !form.info.mode16) continue;
    if (!implicit && !form.kinds.every((kind, i) => accepts(kind, operands[i], widthKnown))) continue;
    if (immediateOnly && form.info.operandSize !== 0 && form.info.operandSize !== bits) continue;
    const encoded = encodeForm(form, bits, operands, prefix);
    if (encoded === undefined) continue;
    // A symbol needs the widest field that the form offers an address: 64 bits for MOV to a 64-bit register.
    const better = operands.some(isSymbol)
      ? best === undefined || (encoded.immediate?.size ?? 0) > (best.immediate?.size ?? 0)
      : best === undefined || encoded.bytes.length < best.bytes.length;
    if (better) best = encoded;
  }
  if (best === undefined)
    throw new RangeError(`no ${bits}-bit form of "${mnemonic} ${operands.map(describe).join(', ')}"`);
  return best;
}

/** A direct branch in its short form and, where there is one, its near form; displacements are zero. */
export function encodeBranch(
  bits: CodeBits,
  mnemonic: string,
): { short: Encoded | undefined; near: Encoded | undefined } {
  const encode = (kind: string): Encoded | undefined => {
    const form = formsOf(mnemonic).find(
      (f) => f.kinds[0] === kind && (bits === 64 ? f.info.mode64 : f.info.mode32),
    );
    if (form === undefined) return undefined;
    const encoder = encoderFor(bits);
    const instruction = Instruction.createBranch(form.code, 0n);
    encoder.encode(instruction, 0n);
    const bytes = encoder.takeBuffer();
    const constants = encoder.getConstantOffsets();
    const immediate = field(constants.hasImmediate, constants.immediateOffset, constants.immediateSize);
    constants.free();
    instruction.free();
    return { bytes, displacement: undefined, immediate };
  };
  return { short: encode(`br${bits}_1`), near: encode(bits === 16 ? 'br16_2' : `br${bits}_4`) };
}

/** A direct far jump or call, `selector:offset`, with a 16- or 32-bit offset; the offset is zero. */
export function encodeFarBranch(
  bits: 16 | 32,
  mnemonic: 'jmp' | 'call',
  selector: number,
  offsetBits: 16 | 32,
): Encoded {
  const code =
    mnemonic === 'jmp'
      ? offsetBits === 16
        ? Code.Jmp_ptr1616
        : Code.Jmp_ptr1632
      : offsetBits === 16
        ? Code.Call_ptr1616
        : Code.Call_ptr1632;
  const encoder = encoderFor(bits);
  const instruction = Instruction.createFarBranch(code, selector, 0);
  encoder.encode(instruction, 0n);
  const bytes = encoder.takeBuffer();
  instruction.free();
  // The pointer is the last thing in the instruction: offset, then the 16-bit selector.
  const size = offsetBits / 8;
  return { bytes, displacement: undefined, immediate: { offset: bytes.length - 2 - size, size } };
}

/** An indirect far jump or call through m16:16, m16:32 or m16:64. */
export function encodeFarIndirect(
  bits: CodeBits,
  mnemonic: 'jmp' | 'call',
  offsetBits: Exclude<Width, 8>,
  memory: Memory,
): Encoded {
  const codes = {
    jmp: { 16: Code.Jmp_m1616, 32: Code.Jmp_m1632, 64: Code.Jmp_m1664 },
    call: { 16: Code.Call_m1616, 32: Code.Call_m1632, 64: Code.Call_m1664 },
  } as const;
  const code = codes[mnemonic][offsetBits];
  const encoded = encodeForm({ code, kinds: ['mem'], info: CodeExt.opCode(code) }, bits, [memory], undefined);
  if (encoded === undefined) throw new RangeError(`no ${bits}-bit form of far ${mnemonic} through memory`);
  return encoded;
}
