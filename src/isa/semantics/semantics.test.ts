/** Rules that single-instruction vectors do not show: faults and their order, atomicity, widths of what is computed. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CodeSize, Instruction, OperandWidth } from '../instruction.ts';
import { type IntegerMnemonic, integerMnemonics } from '../mnemonics.ts';
import { ES, FS, RAX, RBX, RCX, RDI, RDX, RSI, RSP } from '../state.ts';
import { evaluate, type Guest, immediate, instruction, memory, register } from './evaluate.fixture.ts';
import { semantics } from './index.ts';
import { undefinedFlags, unspecifiedFlags } from './undefined-flags.ts';

const CODE = 0x1000n;
const DATA = 0x20_0000n;
const STACK = 0x30_0100n;
const NOWHERE = 0x66_6000n;
const ELSEWHERE = 0x77_7000n;

/** A page at DATA and one around STACK are mapped, zeroed. */
function guest(registers: Record<number, bigint> = {}, rest: Partial<Guest> = {}): Guest {
  const bytes = new Map<bigint, number>();
  for (const page of [DATA, STACK & ~0xfffn]) {
    for (let offset = 0n; offset < 4096n; offset++) bytes.set(page + offset, 0);
  }
  const all = Array.from({ length: 16 }, (_, index) => registers[index] ?? (index === RSP ? STACK : 0n));
  return { registers: all, flags: 0x202n, rip: CODE, memory: bytes, ...rest };
}

function bytesAt(memory: Guest['memory'], address: bigint, count: number): (number | undefined)[] {
  return Array.from({ length: count }, (_, i) => memory.get(address + BigInt(i)));
}

function put(memory: Guest['memory'], address: bigint, value: bigint, bytes: number): void {
  for (let i = 0n; i < bytes; i++) memory.set(address + i, Number((value >> (8n * i)) & 0xffn));
}

const m32 = memory(32, RDI);
const r32 = register(RBX, 32);
const relative = (displacement: bigint) => ({ kind: 'relative' as const, displacement });

test('every integer mnemonic has its meaning', () => {
  expect(Object.keys(semantics).sort()).toEqual([...integerMnemonics].sort());
});

test('no flag is both given up and described', () => {
  for (const mnemonic of Object.keys(undefinedFlags)) expect(unspecifiedFlags).not.toHaveProperty(mnemonic);
});

describe('a read-modify-write is checked for writing before it reads (SDM vol. 3A 4.7: W/R)', () => {
  const cases: [IntegerMnemonic, Instruction['operands']][] = [
    ['add', [m32, r32]],
    ['xor', [m32, r32]],
    ['inc', [m32]],
    ['neg', [m32]],
    ['not', [m32]],
    ['xchg', [m32, r32]],
    ['xadd', [m32, r32]],
    ['cmpxchg', [m32, r32]],
    ['shl', [m32, immediate(8, 0)]],
    ['rcr', [m32, immediate(8, 0)]],
    ['shld', [m32, r32, immediate(8, 0)]],
    ['bts', [m32, r32]],
    ['btc', [m32, immediate(8, 1)]],
    ['cmpxchg8b', [memory(0, RDI)]],
    ['cmpxchg16b', [memory(0, RDI)]],
  ];
  test.each(cases)('%s', (mnemonic, operands) => {
    const absent = evaluate(instruction(mnemonic, 32, operands), guest({ [RDI]: NOWHERE }));
    expect(absent).toMatchObject({ kind: 'fault', vector: 14, errorCode: 6, address: NOWHERE });
    // EAX differs from memory: CMPXCHG* needs the permission though the comparison fails.
    const readOnly = guest({ [RDI]: DATA, [RAX]: 1n }, { readOnlyPages: new Set([DATA >> 12n]) });
    expect(evaluate(instruction(mnemonic, 32, operands), readOnly)).toMatchObject({
      vector: 14,
      errorCode: 7,
    });
  });
});

describe('of two bad addresses, the one accessed first faults', () => {
  const string = (mnemonic: IntegerMnemonic) => instruction(mnemonic, 32, []);
  const registers = { [RSI]: NOWHERE, [RDI]: ELSEWHERE, [RSP]: 0x88_8000n };
  const cases: [string, Instruction, bigint, number][] = [
    ['MOVS reads the source', string('movs'), NOWHERE, 4],
    ['CMPS reads the destination', string('cmps'), ELSEWHERE, 4],
    ['PUSH reads its operand', instruction('push', 64, [memory(64, RDI)]), ELSEWHERE, 4],
    ['POP reads the stack', instruction('pop', 64, [memory(64, RDI)]), 0x88_8000n, 4],
    ['CALL reads its operand', instruction('call', 64, [memory(64, RDI)]), ELSEWHERE, 4],
    ['CALL stores before it checks the target', instruction('call', 64, [register(RBX, 64)]), 0x88_7ff8n, 6],
  ];
  test.each(cases)('%s', (_, what, address, errorCode) => {
    const state = guest({ ...registers, [RBX]: 1n << 63n });
    expect(evaluate(what, state)).toMatchObject({ vector: 14, errorCode, address });
  });
});

describe('memory operands that are not read', () => {
  test.each(['nop', 'prefetch'] as const)('%s', (mnemonic) => {
    expect(evaluate(instruction(mnemonic, 32, [m32]), guest({ [RDI]: NOWHERE })).kind).toBe('next');
  });
  test('CLFLUSH faults as a load', () => {
    const flush = instruction('clflush', 8, [memory(8, RDI)]);
    expect(evaluate(flush, guest({ [RDI]: NOWHERE }))).toMatchObject({ vector: 14, errorCode: 4 });
    expect(evaluate(flush, guest({ [RDI]: DATA })).kind).toBe('next');
  });
  test('a false CMOVcc reads its source all the same', () => {
    const move = instruction('cmovcc', 32, [r32, m32], { condition: 4 });
    expect(evaluate(move, guest({ [RDI]: NOWHERE }))).toMatchObject({ vector: 14, errorCode: 4 });
  });
});

test('a false CMOVcc clears bits 63:32 of a 32-bit destination', () => {
  const state = guest({ [RBX]: 0x1234_5678_9abc_def0n });
  evaluate(instruction('cmovcc', 32, [r32, register(RCX, 32)], { condition: 4 }), state);
  expect(state.registers[RBX]).toBe(0x9abc_def0n);
});

test('CLD, STD', () => {
  const state = guest();
  evaluate(instruction('std', 32, []), state);
  expect(state.flags).toBe(0x602n);
  evaluate(instruction('cld', 32, []), state);
  expect(state.flags).toBe(0x202n);
});

test('UD is #UD', () => {
  expect(evaluate(instruction('ud', 32, []), guest())).toMatchObject({ vector: 6, errorCode: undefined });
});

describe('CMPXCHG16B alignment is of the linear address', () => {
  const exchange = (segment: 3 | typeof FS) => instruction('cmpxchg16b', 64, [memory(0, RDI)], { segment });
  const bases = [0n, 0n, 0n, 0n, 8n, 0n];
  test('an aligned offset in FS with base 8', () => {
    const state = guest({ [RDI]: DATA }, { segmentBases: bases });
    expect(evaluate(exchange(FS), state)).toMatchObject({ vector: 13, errorCode: 0 });
  });
  test('offset and base that add up to a multiple of 16', () => {
    const state = guest({ [RDI]: DATA + 8n, [RBX]: 1n, [RCX]: 2n }, { segmentBases: bases });
    expect(evaluate(exchange(FS), state).kind).toBe('next');
    expect(bytesAt(state.memory, DATA + 16n, 16)).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    expect(state.flags & 0x40n).toBe(0x40n);
  });
});

describe('POP to memory forms its address after rSP has grown', () => {
  test.each([
    ['with base RSP', memory(64, RSP, 0x40n), STACK + 0x48n],
    ['with another base', memory(64, RDI, 0x40n), DATA + 0x40n],
  ])('%s', (_, operand, address) => {
    const state = guest({ [RDI]: DATA });
    put(state.memory, STACK, 0x1122_3344_5566_7788n, 8);
    evaluate(instruction('pop', 64, [operand]), state);
    expect(state.memory.get(address)).toBe(0x88);
    expect(state.registers[RSP]).toBe(STACK + 8n);
  });
  test('a fault of the store finds the old rSP', () => {
    const state = guest();
    const pop = instruction('pop', 64, [memory(64, RSP, 0x10_0000n)]);
    expect(evaluate(pop, state)).toMatchObject({ vector: 14, errorCode: 6, address: STACK + 0x10_0008n });
    expect(state.registers[RSP]).toBe(STACK);
  });
});

describe('targets beyond CS.limit or not canonical', () => {
  const legacy = { codeSize: 32 as CodeSize, addressSize: 32 as CodeSize, length: 2 };
  const limited = { codeLimit: 0x1001n };
  const cases: [string, Instruction][] = [
    ['JMP', instruction('jmp', 32, [relative(0x10n)], legacy)],
    ['Jcc', instruction('jcc', 32, [relative(0x10n)], { ...legacy, condition: 5 })],
    ['LOOP', instruction('loop', 32, [relative(0x10n)], legacy)],
    ['JECXZ', instruction('jcxz', 32, [relative(0x10n)], { ...legacy })],
    ['CALL', instruction('call', 32, [relative(0x10n)], legacy)],
    ['RET', instruction('ret', 32, [], legacy)],
  ];
  test.each(cases)('%s is #GP(0) and changes no register', (_, what) => {
    const state = guest({ [RCX]: what.mnemonic === 'jcxz' ? 0n : 5n }, limited);
    put(state.memory, STACK, 0x1002n, 4);
    const before = [...state.registers];
    expect(evaluate(what, state)).toMatchObject({ vector: 13, errorCode: 0 });
    expect(state.registers).toEqual(before);
    expect(state.rip).toBe(CODE);
  });
  test('a branch not taken is not checked', () => {
    const state = guest({}, limited);
    expect(evaluate(instruction('jcc', 32, [relative(0x10n)], { ...legacy, condition: 4 }), state).kind).toBe(
      'next',
    );
  });
  test.each([
    [0x7fff_ffff_fff0n, 'jump'],
    [0x8000_0000_0000n, 'fault'],
    [0xffff_8000_0000_0000n, 'jump'],
    [0xffff_7fff_ffff_ffffn, 'fault'],
  ])('JMP to %x in 64-bit mode: %s', (target, kind) => {
    expect(evaluate(instruction('jmp', 64, [register(RBX, 64)]), guest({ [RBX]: target })).kind).toBe(kind);
  });
});

describe('16-bit operand size cuts EIP (SDM vol. 2, JMP: "tempEIP AND 0000FFFFH")', () => {
  test.each(['jmp', 'call', 'jcc', 'loop'] as const)('%s', (mnemonic) => {
    const state = guest({ [RCX]: 5n }, {});
    state.rip = 0xabcd_fff0n;
    const what = instruction(mnemonic, 16, [relative(0x20n)], {
      codeSize: 32,
      addressSize: 32,
      condition: 5,
    });
    expect(evaluate(what, state).kind).toBe('jump');
    expect(state.rip).toBe(0x14n);
  });
});

describe('stack pointers wrap at the stack size', () => {
  const legacy = { codeSize: 32 as CodeSize, addressSize: 32 as CodeSize };
  test('PUSH with SP = 2 on a 16-bit stack keeps ESP[31:16]', () => {
    const state = guest({ [RSP]: 0x1234_0002n, [RBX]: 0xaabb_ccddn });
    for (const at of [0xfffen, 0xffffn, 0x1_0000n, 0x1_0001n]) state.memory.set(at, 0);
    evaluate(instruction('push', 32, [r32], legacy), state, 16);
    expect(state.registers[RSP]).toBe(0x1234_fffen);
    expect(bytesAt(state.memory, 0xfffen, 2)).toEqual([0xdd, 0xcc]);
  });
});

describe('repetition', () => {
  test('a count of zero touches no memory', () => {
    const state = guest({ [RSI]: NOWHERE, [RDI]: NOWHERE });
    expect(evaluate(instruction('movs', 64, [], { repeat: 'rep' }), state).kind).toBe('next');
  });
  test('one element a time, the same instruction again while some are left', () => {
    const state = guest({ [RSI]: DATA, [RDI]: DATA + 0x100n, [RCX]: 2n });
    const copy = instruction('movs', 64, [], { repeat: 'rep' });
    expect(evaluate(copy, state).kind).toBe('again');
    expect(state.rip).toBe(CODE);
    expect([state.registers[RSI], state.registers[RDI], state.registers[RCX]]).toEqual([
      DATA + 8n,
      DATA + 0x108n,
      1n,
    ]);
    expect(evaluate(copy, state).kind).toBe('next');
  });
  test('flags of REPE CMPS are those of before until the last comparison', () => {
    const state = guest({ [RSI]: DATA, [RDI]: DATA + 0x100n, [RCX]: 2n });
    state.flags = 0x203n;
    state.memory.set(DATA + 1n, 9);
    const compare = instruction('cmps', 8, [], { repeat: 'rep' });
    expect(evaluate(compare, state).kind).toBe('again');
    expect(state.flags).toBe(0x203n);
    expect(evaluate(compare, state).kind).toBe('next');
    expect(state.flags).toBe(0x206n);
  });
  test('the source has the overridden segment, the destination ES', () => {
    const segmentBases = [0n, 0n, 0n, 0n, 0x40n, 0n];
    const state = guest({ [RSI]: DATA, [RDI]: DATA + 0x80n }, { segmentBases });
    state.memory.set(DATA + 0x40n, 0x77);
    evaluate(instruction('movs', 8, [], { segment: FS }), state);
    expect(state.memory.get(DATA + 0x80n)).toBe(0x77);
    expect(segmentBases[ES]).toBe(0n);
  });
});

/** Unsigned and signed readings of random operands at the width. */
const operandsOf = (width: OperandWidth) =>
  fc.tuple(
    fc.bigInt({ min: 0n, max: (1n << BigInt(width)) - 1n }),
    fc.bigInt({ min: 0n, max: (1n << BigInt(width)) - 1n }),
    fc.boolean(),
  );

describe.each([8, 16, 32, 64] as const)('arithmetic at width %i', (width) => {
  const [x, y] = [register(RBX, width), register(RCX, width)];
  const top = 1n << BigInt(width - 1);
  const flag = (value: boolean, bit: bigint) => (value ? bit : 0n);

  test('ADC and SBB: the carry is what does not fit, OF what does not fit signed, AF that of the low digit', () => {
    fc.assert(
      fc.property(operandsOf(width), fc.boolean(), ([p, q, carry], subtract) => {
        const state = guest({ [RBX]: p, [RCX]: q });
        state.flags |= carry ? 1n : 0n;
        evaluate(instruction(subtract ? 'sbb' : 'adc', width, [x, y]), state);
        const by = (a: bigint, b: bigint) => (subtract ? a - b - BigInt(carry) : a + b + BigInt(carry));
        const exact = by(p, q);
        const exactSigned = by(BigInt.asIntN(width, p), BigInt.asIntN(width, q));
        const result = BigInt.asUintN(width, exact);
        expect(state.registers[RBX]).toBe(result);
        expect(state.flags & 1n).toBe(flag(exact !== result, 1n));
        expect(state.flags & 0x800n).toBe(flag(BigInt.asIntN(width, exactSigned) !== exactSigned, 0x800n));
        const digit = by(p & 15n, q & 15n);
        expect(state.flags & 0x10n).toBe(flag(digit < 0n || digit > 15n, 0x10n));
        expect(state.flags & 0x40n).toBe(flag(result === 0n, 0x40n));
        expect(state.flags & 0x80n).toBe(flag(result >= top, 0x80n));
      }),
    );
  });

  test('IDIV undoes IMUL, and #DE is exactly what does not fit', () => {
    fc.assert(
      fc.property(operandsOf(width), fc.bigInt({ min: -3n, max: 3n }), ([p, q], bias) => {
        const divisor = BigInt.asIntN(width, q);
        const dividend = BigInt.asIntN(width, p) * divisor + bias;
        const bits = BigInt.asUintN(2 * width, dividend);
        const low = BigInt.asUintN(width, bits);
        const high = bits >> BigInt(width);
        const registers = width === 8 ? { [RAX]: bits } : { [RAX]: low, [RDX]: high };
        const state = guest({ ...registers, [RBX]: q });
        const outcome = evaluate(instruction('idiv', width, [x]), state);
        const quotient = divisor === 0n ? undefined : dividend / divisor;
        const inRange = BigInt.asIntN(2 * width, dividend) === dividend;
        if (quotient === undefined || (inRange && BigInt.asIntN(width, quotient) !== quotient)) {
          expect(outcome).toMatchObject({ kind: 'fault', vector: 0 });
        } else if (inRange) {
          const remainder = BigInt.asUintN(width, dividend % divisor);
          expect(BigInt.asUintN(width, state.registers[RAX])).toBe(BigInt.asUintN(width, quotient));
          expect(width === 8 ? state.registers[RAX] >> 8n : state.registers[RDX]).toBe(remainder);
        }
      }),
    );
  });

  test('RCL by n then RCR by n is nothing, and RCL goes around in width + 1 turns', () => {
    fc.assert(
      fc.property(operandsOf(width), fc.nat(63), ([p, q, carry], count) => {
        const state = guest({ [RBX]: p, [RCX]: q });
        state.flags |= carry ? 1n : 0n;
        const by = immediate(8, count);
        evaluate(instruction('rcl', width, [x, by]), state);
        const turns = BigInt((count & (width === 64 ? 63 : 31)) % (width + 1));
        const ring = (BigInt(carry) << BigInt(width)) | p;
        const turned = BigInt.asUintN(width + 1, (ring << turns) | (ring >> (BigInt(width + 1) - turns)));
        expect(((state.flags & 1n) << BigInt(width)) | state.registers[RBX]).toBe(turned);
        evaluate(instruction('rcr', width, [x, by]), state);
        expect(state.registers[RBX]).toBe(p);
        expect(state.flags & 1n).toBe(BigInt(carry));
      }),
    );
  });
});

describe('PDEP, PEXT and CRC32', () => {
  test('PEXT gathers what PDEP scattered', () => {
    fc.assert(
      fc.property(operandsOf(64), ([source, mask]) => {
        const state = guest({ [RBX]: source, [RCX]: mask });
        const [result, x, y] = [register(RAX, 64), register(RBX, 64), register(RCX, 64)];
        evaluate(instruction('pdep', 64, [result, x, y]), state);
        expect(state.registers[RAX] & ~mask).toBe(0n);
        evaluate(instruction('pext', 64, [result, result, y]), state);
        const ones = mask.toString(2).replaceAll('0', '').length;
        expect(state.registers[RAX]).toBe(BigInt.asUintN(ones, source));
      }),
    );
  });
  test('CRC32 of "123456789" is the check value of CRC-32C', () => {
    const state = guest({ [RAX]: 0xffff_ffffn });
    for (const character of '123456789') {
      state.registers[RBX] = BigInt(character.charCodeAt(0));
      evaluate(instruction('crc32', 8, [register(RAX, 32), register(RBX, 8)]), state);
    }
    expect(state.registers[RAX] ^ 0xffff_ffffn).toBe(0xe306_9283n);
  });
});
