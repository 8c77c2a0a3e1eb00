/**
 * Non-interference of whole instructions: flipping tainted bits of what an instruction finds changes tainted bits of what
 * it leaves, and no others. The instructions and states are those of the vectors measured on silicon.
 */
import { describe, expect, it } from 'vitest';
import { STATUS_FLAGS } from '../../isa/flags.ts';
import type { CodeSize, Instruction } from '../../isa/instruction.ts';
import { countOnes, ones } from '../../isa/integers.ts';
import { integerMnemonics } from '../../isa/mnemonics.ts';
import { evaluate, immediate, instruction, memory, register } from '../../isa/semantics/evaluate.fixture.ts';
import {
  instructionOf,
  PAGE,
  PageMemory,
  parseCase,
  readVectors,
  type VectorGuest,
  vectorNames,
} from '../../isa/semantics/vectors.fixture.ts';
import { RAX, RBP, RBX, RCX, RDI, RSI, RSP } from '../../isa/state.ts';
import { insert, labelOf, make, maskOf, type Shadow } from './shadow.ts';
import { Evaluation, INTEGER_FLAGS, type Outcome, type TaintGuest } from './taint-builder.ts';

/** What is tainted of a state. */
interface Taint {
  readonly registers: readonly bigint[];
  readonly flags: number;
  /** By offset in the page. */
  readonly memory: ReadonlyMap<number, number>;
}

const CLEAN: Taint = { registers: new Array(16).fill(0n), flags: 0, memory: new Map() };
const MEMORY_ORIGIN = 100;

function shadowOf(mask: bigint, origin: number): Shadow | null {
  return make(mask, (bit) => labelOf(origin, bit));
}

function guestOf(state: VectorGuest, taint: Taint): TaintGuest {
  const inPage = (linear: bigint, bytes: number) =>
    linear >= PAGE && linear + BigInt(bytes) <= PAGE + BigInt(state.memory.bytes.length);
  // One shadow a register: as often as it is read, it is the same.
  const shadows = taint.registers.map((mask, i) => shadowOf(mask, i + 1));
  return {
    rip: state.rip,
    flags: Number(state.flags),
    flagsShadow: shadowOf(BigInt(taint.flags), 20),
    codeLimit: state.codeLimit ?? 0xffff_ffffn,
    register: (index) => ({ bits: state.registers[index], shadow: shadows[index] }),
    vector: () => ({ bits: 0n, shadow: null }),
    x87Pending: false,
    segmentBase: (segment) => ({ bits: state.segmentBases?.[segment] ?? 0n, shadow: null }),
    load(linear, bytes) {
      if (!inPage(linear, bytes)) return null;
      let bits = 0n;
      let shadow: Shadow | null = null;
      for (let i = 0; i < bytes; i++) {
        const offset = Number(linear - PAGE) + i;
        bits |= BigInt(state.memory.bytes[offset]) << BigInt(8 * i);
        const mask = BigInt(taint.memory.get(offset) ?? 0);
        shadow = insert(shadow, shadowOf(mask, MEMORY_ORIGIN + i), 8 * i, 8);
      }
      return { bits, shadow };
    },
    canStore: inPage,
    codeAddress: () => null,
  };
}

/** Deterministic random numbers (xorshift32). */
function numbers(seed: number): (below: number) => number {
  let x = seed | 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/** Few bits, whole bytes, or many. */
function randomMask(random: (below: number) => number, width: number): bigint {
  const any = () => BigInt(random(0x1_0000_0000)) | (BigInt(random(0x1_0000_0000)) << 32n);
  const kinds = [() => 0n, () => any() & any() & any(), () => 0xffn << BigInt(8 * random(8)), any];
  const one = () => 1n << BigInt(random(width));
  return [...kinds, one, one][random(6)]() & ones(width);
}

/** Registers and memory that `what` does not use as an address may be tainted; the accumulator and counts, too. */
function randomTaint(
  random: (below: number) => number,
  what: Instruction,
  addresses: ReadonlySet<number>,
): Taint {
  const width = what.codeSize === 64 ? 64 : 32;
  const registers = Array.from({ length: 16 }, (_, i) =>
    addresses.has(i) || (width === 32 && i > 7) ? 0n : randomMask(random, width),
  );
  const flags = random(2) ? Number(randomMask(random, 12)) & Number(STATUS_FLAGS) : 0;
  const memory = new Map<number, number>();
  if (random(2))
    for (let offset = 0x430; offset < 0x490; offset++) memory.set(offset, Number(randomMask(random, 8)));
  return { registers, flags, memory };
}

function copy(state: VectorGuest): VectorGuest {
  return {
    ...state,
    registers: [...state.registers],
    memory: new PageMemory(state.memory.bytes.slice()),
  };
}

/** `state` with a random part of its tainted bits flipped. */
function flipped(random: (below: number) => number, state: VectorGuest, taint: Taint): VectorGuest {
  const some = (mask: bigint) => (random(3) === 0 ? mask : mask & randomMask(random, 64));
  const other = copy(state);
  for (const [i, mask] of taint.registers.entries()) other.registers[i] ^= some(mask);
  other.flags ^= some(BigInt(taint.flags));
  for (const [offset, mask] of taint.memory) other.memory.bytes[offset] ^= Number(some(BigInt(mask)));
  return other;
}

interface Compared {
  readonly leaks: string[];
  readonly outcome: Outcome;
  /** Tainted bits of registers and flags that the instruction left. */
  readonly tainted: number;
}

/**
 * Runs `what` on `state` and on others that differ in tainted bits. Undefined where what it does (not what it computes)
 * depends on them, and so it is noted.
 */
function compare(
  what: Instruction,
  stackSize: CodeSize,
  state: VectorGuest,
  taint: Taint,
  random: (below: number) => number,
): Compared | undefined {
  const evaluation = new Evaluation(what, guestOf(state, taint), stackSize);
  const outcome = evaluation.run();
  const plain = copy(state);
  const expected = evaluate(what, plain, stackSize);
  expect(outcome.kind).toBe(expected.kind);
  if (outcome.kind === 'fault') return { leaks: [], outcome, tainted: 0 };

  const leaks: string[] = [];
  const masks = taint.registers.map((mask, i) => {
    const written = evaluation.registers[i];
    if (written !== undefined && written.bits !== plain.registers[i]) leaks.push(`r${i} has another value`);
    return written === undefined ? mask : maskOf(written.shadow);
  });
  expect(evaluation.flags & INTEGER_FLAGS).toBe(Number(plain.flags) & INTEGER_FLAGS);
  const flagsMask = Number(maskOf(evaluation.flagsShadow));
  const memoryMasks = new Map(taint.memory);
  for (const store of evaluation.stores)
    for (let i = 0; i < store.bytes; i++) {
      const offset = Number(store.linear - PAGE) + i;
      memoryMasks.set(offset, Number((maskOf(store.shadow) >> BigInt(8 * i)) & 0xffn));
    }
  if (evaluation.implicit.length > 0) return undefined;

  for (let i = 0; i < 4; i++) {
    const other = flipped(random, state, taint);
    const { registers, flags: before } = copy(other);
    const from = () => `${registers.map((value) => value.toString(16)).join(' ')}, ${before.toString(16)}`;
    const { kind } = evaluate(what, other, stackSize);
    if (kind !== outcome.kind) leaks.push(`${kind} from ${from()}`);
    for (const [r, mask] of masks.entries()) {
      const changed = (other.registers[r] ^ plain.registers[r]) & ~mask;
      if (changed !== 0n) leaks.push(`r${r} bits ${changed.toString(16)} from ${from()}`);
    }
    const flags = Number((other.flags ^ plain.flags) & BigInt(INTEGER_FLAGS)) & ~flagsMask;
    if (flags !== 0) leaks.push(`flags ${flags.toString(16)} from ${from()}`);
    for (let offset = 0; offset < plain.memory.bytes.length; offset++) {
      const difference = other.memory.bytes[offset] ^ plain.memory.bytes[offset];
      if (difference === 0) continue;
      const changed = difference & ~(memoryMasks.get(offset) ?? 0);
      if (changed !== 0) leaks.push(`memory ${offset.toString(16)} bits ${changed.toString(16)}`);
    }
  }
  const tainted = masks.reduce((sum, mask) => sum + countOnes(mask), countOnes(BigInt(flagsMask)));
  return { leaks, outcome, tainted };
}

/** Where the stack is, for ENTER and LEAVE too: accesses there are not noted as flows. */
const STACK_REGISTERS: ReadonlySet<number> = new Set([RSP, RBP]);

/** Registers that the instruction forms addresses of. */
function addressRegisters(what: Instruction): Set<number> {
  const registers = new Set([...STACK_REGISTERS, RSI, RDI]);
  for (const operand of what.operands)
    if (operand.kind === 'memory') for (const r of [operand.base, operand.index]) registers.add(r);
  if (what.mnemonic === 'xlat') registers.add(RBX);
  return registers;
}

const groups = vectorNames().flatMap((name) => readVectors(name));
const mnemonics = [...new Set(groups.map(({ mnemonic }) => mnemonic))];

describe.each(mnemonics)('%s', (mnemonic) => {
  it('leaves what may depend on tainted bits tainted', () => {
    const random = numbers(mnemonic.length * 7919 + mnemonic.charCodeAt(0));
    for (const group of groups.filter((each) => each.mnemonic === mnemonic)) {
      const what = instructionOf(group);
      const stackSize = group.stackSize ?? what.codeSize;
      const addresses = addressRegisters(what);
      for (let i = 0; i < 6; i++) {
        const { start } = parseCase(group, group.cases[random(group.cases.length)]);
        const taint = randomTaint(random, what, i === 5 ? STACK_REGISTERS : addresses);
        const compared = compare(what, stackSize, start, taint, random);
        if (compared) expect(compared.leaks).toEqual([]);
      }
    }
  });
});

describe('what needs no control flow is never given up', () => {
  const free = [
    'add', 'adc', 'sub', 'sbb', 'cmp', 'and', 'or', 'xor', 'test', 'inc', 'dec', 'neg', 'not', 'mul', 'imul', 'mulx',
    'mov', 'movzx', 'movsx', 'movbe', 'xchg', 'lea', 'bswap', 'cmovcc', 'setcc', 'cbw', 'cwd', 'lahf', 'sahf', 'cmpxchg',
    'xadd', 'rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sar', 'shld', 'shrd', 'bsf', 'bsr', 'tzcnt', 'lzcnt', 'popcnt',
    'andn', 'bextr', 'blsi', 'blsr', 'bzhi', 'pdep', 'pext', 'rorx', 'sarx', 'crc32', 'push', 'pop', 'leave', 'aaa', 'daa',
  ] as const; // biome-ignore format: a table
  it.each(free)('%s', (mnemonic) => {
    const random = numbers(99);
    for (const group of groups.filter((each) => each.mnemonic === mnemonic)) {
      const what = instructionOf(group);
      const { start } = parseCase(group, group.cases[0]);
      const taint = randomTaint(random, what, addressRegisters(what));
      // LEAVE addresses the stack by rBP.
      const registers = mnemonic === 'leave' ? taint.registers.with(RBP, 0n) : taint.registers;
      expect(
        compare(what, group.stackSize ?? what.codeSize, start, { ...taint, registers }, random),
      ).toBeDefined();
    }
  });
});

describe('vectors', () => {
  it('has vectors for nearly every mnemonic', () => {
    const missing = integerMnemonics.filter(
      (mnemonic) => !(mnemonics as readonly string[]).includes(mnemonic),
    );
    expect(missing.length).toBeLessThan(12);
  });
});

/** What becomes of `taint` where `what` runs on a page with RDI, RSI and RSP in it. */
function worked(
  what: Instruction,
  taint: Partial<Taint>,
  registers: Record<number, bigint> = {},
): Evaluation {
  const state: VectorGuest = {
    registers: Array.from({ length: 16 }, (_, i) => registers[i] ?? PAGE + BigInt(0x100 + 16 * i)),
    flags: 0x2n,
    rip: 0x1000n,
    memory: new PageMemory(new Uint8Array(4096)),
  };
  const evaluation = new Evaluation(what, guestOf(state, { ...CLEAN, ...taint }), 64);
  evaluation.run();
  return evaluation;
}

const secret = (index: number, mask = ones(64)) => ({ registers: CLEAN.registers.with(index, mask) });
const r = register;

describe('precision', () => {
  const cases: [string, Instruction, Record<number, bigint>, bigint, number, bigint][] = [
    // What, the instruction, registers, tainted bits of RCX, the register looked at, its tainted bits after.
    ['a 32-bit move clears bits 63:32', instruction('mov', 32, [r(RAX, 32), r(RCX, 32)]), {}, ones(64), RAX, ones(32)],
    ['a 16-bit move keeps the rest', instruction('mov', 16, [r(RAX, 16), r(RCX, 16)]), {}, ones(64), RAX, 0xffffn],
    ['to AH', instruction('mov', 8, [r(RAX, 8, true), r(RCX, 8)]), {}, ones(64), RAX, 0xff00n],
    ['from CH', instruction('mov', 8, [r(RAX, 8), r(RCX, 8, true)]), {}, 0xff00n, RAX, 0xffn],
    ['AND with known bits', instruction('and', 32, [r(RCX, 32), immediate(32, 0xffff)]), {}, ones(64), RCX, 0xffffn],
    ['OR with ones', instruction('or', 32, [r(RCX, 32), immediate(32, 0xffff)]), {}, ones(64), RCX, 0xffff_0000n],
    ['XOR with itself', instruction('xor', 32, [r(RCX, 32), r(RCX, 32)]), {}, ones(64), RCX, 0n],
    ['SUB from itself', instruction('sub', 64, [r(RCX, 64), r(RCX, 64)]), {}, ones(64), RCX, 0n],
    ['ADD carries as far as ones go', instruction('add', 64, [r(RCX, 64), immediate(64, 8)]), { [RCX]: 0x20n }, 8n, RCX, 0x18n],
    ['SHR', instruction('shr', 64, [r(RCX, 64), immediate(8, 32)]), {}, ones(64), RCX, ones(32)],
    ['ROL', instruction('rol', 32, [r(RCX, 32), immediate(8, 8)]), {}, 0xffn, RCX, 0xff00n],
    ['BSWAP', instruction('bswap', 64, [r(RCX, 64)]), {}, 0xffn, RCX, 0xffn << 56n],
    ['MOVSX of a clean sign', instruction('movsx', 64, [r(RAX, 64), r(RCX, 8)]), {}, 0x7fn, RAX, 0x7fn],
    ['MOVSX of a tainted sign', instruction('movsx', 64, [r(RAX, 64), r(RCX, 8)]), {}, 0x80n, RAX, ones(64) << 7n & ones(64)],
    ['SETcc of a clean flag', instruction('setcc', 8, [r(RAX, 8)], { condition: 4 }), {}, ones(64), RAX, 0n],
    ['IMUL by 8', instruction('imul', 64, [r(RAX, 64), r(RCX, 64), immediate(64, 8)]), {}, 0xf0n, RAX, 0x780n],
    ['LEA', instruction('lea', 64, [r(RAX, 64), { ...memory(0, RCX), scale: 0 } as never]), { [RCX]: 0n }, 0xff00n, RAX, 0xff00n],
  ]; // biome-ignore format: a table
  it.each(cases)('%s', (_, what, registers, mask, looked, expected) => {
    const evaluation = worked(what, secret(RCX, mask), registers);
    expect(maskOf(evaluation.registers[looked]?.shadow ?? null)).toBe(expected);
  });

  it('flags are tainted one by one', () => {
    // Bits 63:4 are clean and not zero: ZF and SF are known, PF is not.
    const { flagsShadow } = worked(instruction('test', 64, [r(RCX, 64), r(RCX, 64)]), secret(RCX, 0xfn));
    expect(maskOf(flagsShadow)).toBe(0x04n);
  });

  it('memory is tainted byte by byte', () => {
    const stored = worked(instruction('mov', 32, [memory(32, RDI), r(RCX, 32)]), secret(RCX, 0xff00n));
    expect(stored.stores).toMatchObject([{ linear: PAGE + 0x170n, bytes: 4, shadow: { mask: 0xff00n } }]);
  });
});

describe('what shadows do not follow is noted', () => {
  const jcc = instruction('jcc', 64, [{ kind: 'relative', displacement: 2n }], { condition: 4 });
  it('a branch', () => {
    expect(worked(jcc, { flags: 0x40 }).implicit).toMatchObject([{ kind: 'branch', label: labelOf(20, 6) }]);
    expect(worked(jcc, { flags: 0x01 }).implicit).toEqual([]);
  });
  it('the address of a load, unless all that is loaded is tainted anyway', () => {
    const load = instruction('mov', 8, [r(RAX, 8), memory(8, RDI)]);
    expect(worked(load, secret(RDI)).implicit).toMatchObject([{ kind: 'load' }]);
    const all = new Map([[0x170, 0xff]]);
    expect(worked(load, { ...secret(RDI), memory: all }).implicit).toEqual([]);
  });
  it('the address of a store', () => {
    const store = instruction('mov', 8, [memory(8, RDI), r(RAX, 8)]);
    expect(worked(store, secret(RDI)).implicit).toMatchObject([{ kind: 'store' }]);
  });
  it('a repeat count', () => {
    const move = instruction('movs', 8, [], { repeat: 'rep' });
    expect(worked(move, secret(RCX)).implicit).toMatchObject([{ kind: 'branch' }, { kind: 'branch' }]);
  });
  it('an approximation', () => {
    const multiply = worked(instruction('mul', 64, [r(RCX, 64)]), secret(RCX), { [RAX]: 3n });
    expect([...multiply.approximations.keys()]).toEqual(['product', 'high half of a product']);
    expect(worked(instruction('add', 64, [r(RAX, 64), r(RCX, 64)]), secret(RCX)).approximations.size).toBe(0);
  });
});

it('names the places that it read', () => {
  const what = instruction('add', 64, [r(RAX, 64), memory(64, RDI)]);
  const { sources } = worked(what, { ...secret(RAX, 1n), memory: new Map([[0x170, 2]]) });
  expect(sources).toMatchObject([
    { kind: 'register', index: RAX, shadow: { mask: 1n } },
    { kind: 'memory', linear: PAGE + 0x170n, bytes: 8, shadow: { mask: 2n } },
  ]);
});
