/**
 * Mutants of code: each instruction deleted, exchanged with the next, and altered: another condition, register,
 * constant, operand size, operation, segment or prefix. Every mutant takes as many bytes as the original, so nothing else
 * moves. SDM vol. 2A 2.1, 2.2 (encoding), B.1 (condition fields).
 */
import {
  type ConstantOffsets,
  Decoder,
  Encoder,
  FlowControl,
  Formatter,
  FormatterSyntax,
  type Instruction,
  InstructionInfoFactory,
  Mnemonic,
  OpAccess,
  OpKind,
  Register,
  RegisterExt,
} from 'iced-x86';
import type { Mutant } from './mutant.ts';

/** A run of 64-bit instructions. */
export interface CodeRange {
  /** Linear address of the first byte. */
  readonly start: bigint;
  readonly bytes: Uint8Array;
}

export interface CodeNames {
  /** `symbol+0x12` */
  readonly describe: (linear: bigint) => string;
  readonly physical: (linear: bigint) => number;
}

const NOP = 0x90;
const REX_W = 8;
/** Overrides that mean nothing in 64-bit mode stand for a prefix that is taken away. */
const NO_PREFIX = 0x3e;
const prefixes = new Set([0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65]);

/** Where the parts of an encoded instruction are. */
interface Anatomy {
  /** Offsets of legacy prefixes, of REX or -1, of the opcode's first byte. */
  readonly prefixes: readonly number[];
  readonly rex: number;
  readonly opcode: number;
}

function anatomy(bytes: Uint8Array): Anatomy {
  let at = 0;
  const found: number[] = [];
  while (prefixes.has(bytes[at])) found.push(at++);
  const rex = (bytes[at] & 0xf0) === 0x40 ? at++ : -1;
  return { prefixes: found, rex, opcode: at };
}

type Change = readonly [what: string, bytes: Uint8Array | undefined];

/** `bytes` with some replaced. */
function replaced(bytes: Uint8Array, ...changes: readonly (readonly [at: number, value: number])[]) {
  const copy = bytes.slice();
  for (const [at, value] of changes) copy[at] = value;
  return copy;
}

/** Other operations of the same form, by opcode. */
const otherOperation: Readonly<Record<number, readonly [string, number]>> = {
  1: ['sub', 0x29],
  3: ['sub', 0x2b],
  41: ['add', 0x01],
  43: ['add', 0x03],
  9: ['and', 0x21],
  11: ['and', 0x23],
  33: ['or', 0x09],
  35: ['or', 0x0b],
  49: ['or', 0x09],
  51: ['or', 0x0b],
  133: ['cmp', 0x39],
  137: ['the other way', 0x8b],
  139: ['the other way', 0x89],
  141: ['mov', 0x8b],
  250: ['sti', 0xfb],
  251: ['cli', 0xfa],
  252: ['std', 0xfd],
  253: ['cld', 0xfc],
};

/** Other operations of opcodes whose ModRM byte names them, by its reg field. */
const otherInGroup: Readonly<Record<number, Readonly<Record<number, readonly [string, number]>>>> = {
  128: { 0: ['sub', 5], 1: ['and', 4], 4: ['or', 1], 5: ['add', 0] },
  129: { 0: ['sub', 5], 1: ['and', 4], 4: ['or', 1], 5: ['add', 0] },
  131: { 0: ['sub', 5], 1: ['and', 4], 4: ['or', 1], 5: ['add', 0] },
  193: { 4: ['shr', 5], 5: ['shl', 4], 7: ['shr', 5] },
  255: { 0: ['dec', 1], 1: ['inc', 0] },
};

function operations(bytes: Uint8Array, { opcode: at, rex }: Anatomy): Change[] {
  const opcode = bytes[at];
  const changes: Change[] = [];
  if ((opcode & 0xf0) === 0x70) {
    changes.push(['other condition', replaced(bytes, [at, opcode ^ 1])]);
    changes.push(['always', replaced(bytes, [at, 0xeb])]);
  } else if (opcode === 0x0f) {
    const second = bytes[at + 1];
    if ((second & 0xf0) === 0x80) {
      changes.push(['other condition', replaced(bytes, [at + 1, second ^ 1])]);
      changes.push(['always', replaced(bytes, [at, NOP], [at + 1, 0xe9])]);
    }
    if ((second & 0xf0) === 0x90) changes.push(['other condition', replaced(bytes, [at + 1, second ^ 1])]);
  } else {
    const other = otherOperation[opcode];
    if (other) changes.push([other[0], replaced(bytes, [at, other[1]])]);
    const inGroup = otherInGroup[opcode]?.[(bytes[at + 1] >> 3) & 7];
    if (inGroup)
      changes.push([inGroup[0], replaced(bytes, [at + 1, (bytes[at + 1] & ~0x38) | (inGroup[1] << 3)])]);
  }
  if (rex >= 0 && bytes[rex] & REX_W) changes.push(['32 bits', replaced(bytes, [rex, bytes[rex] & ~REX_W])]);
  return changes;
}

function prefixChanges(bytes: Uint8Array, found: Anatomy): Change[] {
  const changes: Change[] = [];
  for (const at of found.prefixes) {
    if (bytes[at] === 0x65)
      changes.push(['no gs', replaced(bytes, [at, NO_PREFIX])], ['fs', replaced(bytes, [at, 0x64])]);
    if (bytes[at] === 0xf3) changes.push(['once', replaced(bytes, [at, NO_PREFIX])]);
    if (bytes[at] === 0xf0) changes.push(['no lock', replaced(bytes, [at, NO_PREFIX])]);
  }
  return changes;
}

function littleEndian(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0n;
  for (let i = size; i-- > 0; ) value = (value << 8n) | BigInt(bytes[at + i]);
  return value;
}

function withConstant(bytes: Uint8Array, at: number, size: number, value: bigint): Uint8Array {
  const copy = bytes.slice();
  for (let i = 0; i < size; i++) copy[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return copy;
}

function constants(bytes: Uint8Array, offsets: ConstantOffsets, branch: boolean): Change[] {
  const changes: Change[] = [];
  if (offsets.hasDisplacement) {
    const { displacementOffset: at, displacementSize: size } = offsets;
    const value = littleEndian(bytes, at, size);
    changes.push(['displacement +8', withConstant(bytes, at, size, value + 8n)]);
    changes.push(['displacement -8', withConstant(bytes, at, size, value - 8n)]);
  }
  if (offsets.hasImmediate && !branch) {
    const { immediateOffset: at, immediateSize: size } = offsets;
    const value = littleEndian(bytes, at, size);
    changes.push(['immediate ^1', withConstant(bytes, at, size, value ^ 1n)]);
    // The highest bit that is set and is no sign's.
    const sign = 1n << BigInt(8 * size - 1);
    const top = value & sign ? ~value & (sign - 1n) : value;
    const bit = top <= 1n ? 8n : 1n << BigInt(top.toString(2).length - 1);
    changes.push([`immediate ^0x${bit.toString(16)}`, withConstant(bytes, at, size, value ^ bit)]);
  }
  return changes;
}

/** The register beside another: the pairs of the encoding's lowest bit. Undefined for other kinds. */
function neighbour(register: Register): Register | undefined {
  for (const first of [Register.RAX, Register.EAX, Register.AX]) {
    const number = register - first;
    if (number >= 0 && number < 16) return first + (number ^ 1);
  }
  const low = register - Register.AL;
  if (low >= 0 && low < 4) return Register.AL + (low ^ 1);
  for (const [a, b] of [
    [Register.CR2, Register.CR3],
    [Register.DR6, Register.DR7],
  ]) {
    if (register === a) return b;
    if (register === b) return a;
  }
  return undefined;
}

const registerNames = new Map(
  Object.entries(Register)
    .filter(([name]) => Number.isNaN(Number(name)))
    .map(([name, value]) => [value as Register, name.toLowerCase()]),
);

/** Encodes an instruction for its own address into as many bytes as it had; undefined where it takes more. */
function encode(instruction: Instruction, address: bigint, length: number): Uint8Array | undefined {
  const encoder = new Encoder(64);
  try {
    encoder.encode(instruction, address);
    const bytes = encoder.takeBuffer();
    if (bytes.length > length) return undefined;
    const padded = new Uint8Array(length).fill(NOP);
    padded.set(bytes);
    return padded;
  } catch {
    // No such instruction.
    return undefined;
  } finally {
    encoder.free();
  }
}

function registers(instruction: Instruction, address: bigint): Change[] {
  const changes: Change[] = [];
  const vary = (slot: string, register: Register, set: (copy: Instruction, to: Register) => void) => {
    const other = neighbour(register);
    if (other === undefined) return;
    const copy = instruction.clone();
    set(copy, other);
    changes.push([`${slot}${registerNames.get(other)}`, encode(copy, address, instruction.length)]);
    copy.free();
  };
  for (let i = 0; i < instruction.opCount; i++) {
    if (instruction.opKind(i) !== OpKind.Register) continue;
    vary(i === 0 ? 'to ' : 'from ', instruction.opRegister(i), (copy, to) => copy.setOpRegister(i, to));
  }
  vary('base ', instruction.memoryBase, (copy, to) => {
    copy.memoryBase = to;
  });
  vary('index ', instruction.memoryIndex, (copy, to) => {
    copy.memoryIndex = to;
  });
  if (instruction.memoryIndex !== Register.None && instruction.memoryIndexScale === 8) {
    const copy = instruction.clone();
    copy.memoryIndexScale = 4;
    changes.push(['scale 4', encode(copy, address, instruction.length)]);
    copy.free();
  }
  return changes;
}

/** All mutants of a run of code. */
export function codeMutants(range: CodeRange, { describe, physical }: CodeNames): Mutant[] {
  const decoder = new Decoder(64, range.bytes, 0);
  decoder.ip = range.start;
  const formatter = new Formatter(FormatterSyntax.Intel);
  const list: { at: number; instruction: Instruction; offsets: ConstantOffsets }[] = [];
  while (decoder.canDecode) {
    const at = decoder.position;
    const instruction = decoder.decode();
    list.push({ at, instruction, offsets: decoder.getConstantOffsets(instruction) });
  }
  const mutants: Mutant[] = [];
  for (const [i, { at, instruction, offsets }] of list.entries()) {
    const address = range.start + BigInt(at);
    const place = describe(address);
    const bytes = range.bytes.slice(at, at + instruction.length);
    const text = formatter.format(instruction);
    const add = (what: string, changed: Uint8Array | undefined, instead?: string, independent?: boolean) => {
      if (changed === undefined || changed.every((byte, j) => byte === range.bytes[at + j])) return;
      mutants.push({
        key: `${place}: ${what}`,
        group: 'code',
        text: `${text} -> ${instead ?? textOf(formatter, changed, address)}`,
        address: physical(address),
        bytes: changed,
        late: false,
        ...(independent && { independent }),
      });
    };
    add('delete', new Uint8Array(bytes.length).fill(NOP), '(nothing)');
    const next = list[i + 1];
    if (next && !leaves(instruction) && !leaves(next.instruction)) {
      const first = encode(next.instruction, address, next.instruction.length);
      const second = encode(instruction, address + BigInt(next.instruction.length), instruction.length);
      if (first && second) {
        const both = new Uint8Array(first.length + second.length);
        both.set(first);
        both.set(second, first.length);
        const apart = independent(instruction, next.instruction);
        add('swap with next', both, `${formatter.format(next.instruction)}; ${text}`, apart);
      }
    }
    const found = anatomy(bytes);
    const branch = instruction.isJccShortOrNear || instruction.isJmpShortOrNear || instruction.isCallNear;
    for (const [what, changed] of [
      ...operations(bytes, found),
      ...prefixChanges(bytes, found),
      ...constants(bytes, offsets, branch),
      ...registers(instruction, address),
    ])
      add(what, changed);
  }
  for (const { instruction, offsets } of list) {
    instruction.free();
    offsets.free();
  }
  formatter.free();
  decoder.free();
  return mutants;
}

/** Whether neither instruction uses what the other changes: registers, flags, memory (any). */
function independent(a: Instruction, b: Instruction): boolean {
  // SWAPGS changes what addresses in GS mean.
  const swap = [a, b].some(({ mnemonic }) => mnemonic === Mnemonic.Swapgs);
  if (swap && [a, b].some(({ memorySegment }) => memorySegment === Register.GS)) return false;
  const [x, y] = [uses(a), uses(b)];
  const apart = (one: Uses, other: Uses) =>
    [...one.written].every((register) => !other.used.has(register)) &&
    (one.flagsWritten & other.flagsUsed) === 0 &&
    !(one.writesMemory && other.usesMemory);
  return apart(x, y) && apart(y, x);
}

interface Uses {
  /** Whole registers: read or written, and written. */
  readonly used: ReadonlySet<Register>;
  readonly written: ReadonlySet<Register>;
  readonly flagsUsed: number;
  readonly flagsWritten: number;
  readonly usesMemory: boolean;
  readonly writesMemory: boolean;
}

const writes = (access: OpAccess) => access !== OpAccess.Read && access !== OpAccess.CondRead;

function uses(instruction: Instruction): Uses {
  const factory = new InstructionInfoFactory();
  const info = factory.info(instruction);
  const registers = info.usedRegisters();
  const memory = info.usedMemory();
  const used = new Set(registers.map(({ register }) => RegisterExt.fullRegister(register)));
  const written = new Set(
    registers
      .filter(({ access }) => writes(access))
      .map(({ register }) => RegisterExt.fullRegister(register)),
  );
  const { rflagsModified: flagsWritten, rflagsRead } = instruction;
  const writesMemory = memory.some(({ access }) => writes(access));
  const result = {
    used,
    written,
    flagsUsed: flagsWritten | rflagsRead,
    flagsWritten,
    usesMemory: memory.length > 0,
    writesMemory,
  };
  for (const each of [...registers, ...memory, info, factory]) each.free();
  return result;
}

/** What follows it is not executed after it; before it, it would be deleted. */
function leaves({ flowControl }: Instruction): boolean {
  return flowControl === FlowControl.UnconditionalBranch || flowControl === FlowControl.Return;
}

function textOf(formatter: Formatter, bytes: Uint8Array, address: bigint): string {
  const decoder = new Decoder(64, bytes, 0);
  decoder.ip = address;
  const instruction = decoder.decode();
  const text = formatter.format(instruction);
  instruction.free();
  decoder.free();
  return text;
}
