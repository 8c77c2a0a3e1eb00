/**
 * x87 loads, stores, exchanges, conditional moves, constants and sign changes. SDM vol. 1 8.3.3, 8.3.4; vol. 2A "FLD",
 * "FST", "FILD", "FIST", "FISTTP", "FBLD", "FBSTP", "FXCH", "FCMOVcc", "FLD1"...
 */

import { LN2, LOG2_10, LOG2_E, LOG10_2, PI } from '../isa/float/constants.ts';
import { convert, fromInteger, integerIndefinite, toInteger } from '../isa/float/convert.ts';
import { DENORMAL, INVALID, TOWARD_ZERO } from '../isa/float/environment.ts';
import { F80, type Format, INFINITE, indefinite, unpack } from '../isa/float/format.ts';
import { special } from '../isa/float/nan.ts';
import { round } from '../isa/float/round.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { Cpu } from './cpu.ts';
import { readMemory, writeMemory } from './x87-memory.ts';
import {
  begin,
  INDEFINITE,
  isEmpty,
  pop,
  push,
  readSt,
  report,
  setC1,
  stackFault,
  writeSt,
} from './x87-stack.ts';

/** Pushes, unless the stack is full. */
function load(cpu: Cpu, bits: bigint): void {
  if (isEmpty(cpu, 7)) {
    push(cpu, bits);
    setC1(cpu, false);
  } else if (stackFault(cpu, true)) push(cpu, INDEFINITE);
}

/** FLD m32fp, m64fp. A denormal is loaded even where that exception is unmasked (measured). */
export function loadFloat(cpu: Cpu, instruction: Instruction, f: Format): void {
  const x = unpack(f, readMemory(cpu, instruction, f.bits));
  if (!isEmpty(cpu, 7)) {
    load(cpu, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  e.masks |= DENORMAL;
  const result = convert(e, F80, x, true);
  if (report(cpu, e)) push(cpu, result);
}

/** FLD m80fp. */
export function loadExtended(cpu: Cpu, instruction: Instruction): void {
  load(cpu, readMemory(cpu, instruction, 80));
}

/** FLD ST(i). */
export function loadRegister(cpu: Cpu, i: number): void {
  if (isEmpty(cpu, i)) {
    if (stackFault(cpu, false)) push(cpu, INDEFINITE);
  } else load(cpu, readSt(cpu, i));
}

/** FILD. */
export function loadInteger(cpu: Cpu, instruction: Instruction, bits: number): void {
  const value = BigInt.asIntN(bits, readMemory(cpu, instruction, bits));
  load(cpu, fromInteger(begin(cpu), F80, value));
}

/** FBLD: 18 digits of four bits and a sign; digits above 9 count as they stand. */
export function loadDecimal(cpu: Cpu, instruction: Instruction): void {
  const digits = readMemory(cpu, instruction, 80);
  let value = 0n;
  for (let shift = 68n; shift >= 0n; shift -= 4n) value = value * 10n + ((digits >> shift) & 15n);
  const sign = digits & (1n << 79n);
  load(cpu, fromInteger(begin(cpu), F80, value) | sign);
}

/** A constant that is not exact: rounded as the control word says, raising nothing. */
function loadRounded(cpu: Cpu, { significand, exponent }: { significand: bigint; exponent: number }): void {
  load(cpu, round(begin(cpu), F80, false, significand, exponent));
}

const ONE = 0x3fff_8000_0000_0000_0000n;

/** FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ, by rm. */
export const CONSTANTS: readonly ((cpu: Cpu) => void)[] = [
  (cpu) => load(cpu, ONE),
  (cpu) => loadRounded(cpu, LOG2_10),
  (cpu) => loadRounded(cpu, LOG2_E),
  (cpu) => loadRounded(cpu, PI),
  (cpu) => loadRounded(cpu, LOG10_2),
  (cpu) => loadRounded(cpu, LN2),
  (cpu) => load(cpu, 0n),
];

/**
 * Stores what `value` is of ST(0), or `whenEmpty` for an empty one, and pops. A fault of the access goes before what the operation
 * raises, but after an exception that keeps it from storing there is no access (measured).
 */
function store(
  cpu: Cpu,
  instruction: Instruction,
  bits: number,
  pops: boolean,
  whenEmpty: bigint,
  value: () => bigint,
): void {
  const { fsw } = cpu;
  let result = whenEmpty;
  if (isEmpty(cpu, 0)) {
    if (!stackFault(cpu, false)) return;
  } else {
    const e = begin(cpu);
    result = value();
    if (!report(cpu, e, true)) return;
  }
  try {
    writeMemory(cpu, instruction, bits, result);
  } catch (fault) {
    cpu.fsw = fsw;
    throw fault;
  }
  if (pops) pop(cpu);
}

/** FST, FSTP m32fp, m64fp. */
export function storeFloat(cpu: Cpu, instruction: Instruction, f: Format, pops: boolean): void {
  store(cpu, instruction, f.bits, pops, indefinite(f), () =>
    convert(begin(cpu), f, unpack(F80, readSt(cpu, 0)), false),
  );
}

/** FSTP m80fp. */
export function storeExtended(cpu: Cpu, instruction: Instruction): void {
  store(cpu, instruction, 80, true, INDEFINITE, () => readSt(cpu, 0));
}

/** FST, FSTP ST(i). */
export function storeRegister(cpu: Cpu, i: number, pops: boolean): void {
  if (isEmpty(cpu, 0)) {
    if (!stackFault(cpu, false)) return;
    writeSt(cpu, i, INDEFINITE);
  } else {
    setC1(cpu, false);
    writeSt(cpu, i, readSt(cpu, 0));
  }
  if (pops) pop(cpu);
}

/** D9 D8, which is in no manual: FSTP ST(i) that takes an empty ST(0) without complaint, and then only pops (measured). */
export function storeRegisterQuietly(cpu: Cpu, i: number): void {
  setC1(cpu, false);
  if (!isEmpty(cpu, 0)) writeSt(cpu, i, readSt(cpu, 0));
  pop(cpu);
}

/** FIST, FISTP, FISTTP (`truncate`). */
export function storeInteger(
  cpu: Cpu,
  instruction: Instruction,
  bits: number,
  pops: boolean,
  truncate = false,
): void {
  store(cpu, instruction, bits, pops, integerIndefinite(bits), () => {
    const e = begin(cpu);
    if (truncate) e.rounding = TOWARD_ZERO;
    return toInteger(e, bits, unpack(F80, readSt(cpu, 0)));
  });
}

/** The packed BCD indefinite (SDM vol. 1 table 4-4). */
const DECIMAL_INDEFINITE = 0xffff_c000_0000_0000_0000n;
const DECIMAL_LIMIT = 10n ** 18n;

/** FBSTP. */
export function storeDecimal(cpu: Cpu, instruction: Instruction): void {
  store(cpu, instruction, 80, true, DECIMAL_INDEFINITE, () => {
    const e = begin(cpu);
    const x = unpack(F80, readSt(cpu, 0));
    if (special(x) || x.kind === INFINITE) {
      e.raise(INVALID);
      return DECIMAL_INDEFINITE;
    }
    let value = toInteger(e, 64, x);
    if (value < 0n) value = -value;
    if (value >= DECIMAL_LIMIT) {
      e.flags = INVALID;
      e.roundedUp = false;
      return DECIMAL_INDEFINITE;
    }
    let digits = x.negative ? 1n << 79n : 0n;
    for (let shift = 0n; value !== 0n; shift += 4n) {
      digits |= (value % 10n) << shift;
      value /= 10n;
    }
    return digits;
  });
}

/** FXCH. */
export function exchange(cpu: Cpu, i: number): void {
  if (isEmpty(cpu, 0) || isEmpty(cpu, i)) {
    if (!stackFault(cpu, false)) return;
    if (isEmpty(cpu, 0)) writeSt(cpu, 0, INDEFINITE);
    if (isEmpty(cpu, i)) writeSt(cpu, i, INDEFINITE);
  } else setC1(cpu, false);
  const x = readSt(cpu, 0);
  writeSt(cpu, 0, readSt(cpu, i));
  writeSt(cpu, i, x);
}

/** FCMOVcc, with its condition: C1 tells of stack faults alone, and they write ST(0) whatever the condition (measured). */
export function conditionalMove(cpu: Cpu, i: number, condition: boolean): void {
  if (isEmpty(cpu, 0) || isEmpty(cpu, i)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  if (condition) writeSt(cpu, 0, readSt(cpu, i));
}

const SIGN = 1n << 79n;

/** FCHS, FABS: whatever ST(0) holds. */
export function changeSign(cpu: Cpu, absolute: boolean): void {
  if (isEmpty(cpu, 0)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  setC1(cpu, false);
  const x = readSt(cpu, 0);
  writeSt(cpu, 0, absolute ? x & ~SIGN : x ^ SIGN);
}
