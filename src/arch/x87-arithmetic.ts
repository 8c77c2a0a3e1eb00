/**
 * x87 arithmetic and comparisons. SDM vol. 1 8.3.5, 8.3.6, 8.3.6.1, 8.3.7; vol. 2A, 2B "FADD" to "FXTRACT".
 *
 * `Source` is where the second operand comes from: ST(i), or memory, which the instruction has read already.
 */
import { readFlags, writeFlags } from '../isa/flags.ts';
import { add, divide, multiply, squareRoot, subtract } from '../isa/float/arithmetic.ts';
import { compare, EQUAL, LESS, type Relation, UNORDERED } from '../isa/float/compare.ts';
import { toIntegral } from '../isa/float/convert.ts';
import type { Environment } from '../isa/float/environment.ts';
import { F80, type Format, type Real, real, ZERO } from '../isa/float/format.ts';
import { extract, partialRemainder, scale } from '../isa/float/x87-operations.ts';
import type { Cpu } from './cpu.ts';
import {
  begin,
  FSW_C0,
  FSW_C1,
  FSW_C2,
  FSW_C3,
  INDEFINITE,
  isEmpty,
  pop,
  precision,
  push,
  report,
  setC1,
  st,
  stackFault,
  writeSt,
} from './x87-stack.ts';

type Binary = (e: Environment, f: Format, x: Real, y: Real) => bigint;

const subtractReversed: Binary = (e, f, x, y) => subtract(e, f, y, x);
const divideReversed: Binary = (e, f, x, y) => divide(e, f, y, x);

/** By reg of ModR/M: FADD, FMUL, (FCOM, FCOMP), FSUB, FSUBR, FDIV, FDIVR: of the destination and the source. */
export const OPERATIONS: readonly (Binary | null)[] = [
  add,
  multiply,
  null,
  null,
  subtract,
  subtractReversed,
  divide,
  divideReversed,
];

/** ST(0) = ST(0) op `y`, from memory. */
export function arithmeticMemory(cpu: Cpu, operation: Binary, y: Real): void {
  if (isEmpty(cpu, 0)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const result = operation(e, precision(cpu), st(cpu, 0), y);
  if (report(cpu, e)) writeSt(cpu, 0, result);
}

/** ST(d) = ST(d) op ST(s), and a pop. */
export function arithmetic(cpu: Cpu, operation: Binary, d: number, s: number, pops: boolean): void {
  let result: bigint;
  if (isEmpty(cpu, d) || isEmpty(cpu, s)) {
    if (!stackFault(cpu, false)) return;
    result = INDEFINITE;
  } else {
    const e = begin(cpu);
    result = operation(e, precision(cpu), st(cpu, d), st(cpu, s));
    if (!report(cpu, e)) return;
  }
  writeSt(cpu, d, result);
  if (pops) pop(cpu);
}

/** ST(0) = op ST(0). */
function unary(cpu: Cpu, operation: (e: Environment, x: Real) => bigint): void {
  if (isEmpty(cpu, 0)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const result = operation(e, st(cpu, 0));
  if (report(cpu, e)) writeSt(cpu, 0, result);
}

export function fsqrt(cpu: Cpu): void {
  unary(cpu, (e, x) => squareRoot(e, precision(cpu), x));
}

export function frndint(cpu: Cpu): void {
  unary(cpu, (e, x) => toIntegral(e, F80, x, true));
}

/** FSCALE: ST(0) * 2^(ST(1) cut to an integer). */
export function fscale(cpu: Cpu): void {
  if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const result = scale(e, st(cpu, 0), st(cpu, 1));
  if (report(cpu, e)) writeSt(cpu, 0, result);
}

/** FXTRACT: the exponent in ST(0)'s place, the significand pushed. */
export function fxtract(cpu: Cpu): void {
  if (isEmpty(cpu, 0) || !isEmpty(cpu, 7)) {
    if (!stackFault(cpu, !isEmpty(cpu, 0))) return;
    writeSt(cpu, 0, INDEFINITE);
    push(cpu, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const { exponent, significand } = extract(e, st(cpu, 0));
  if (!report(cpu, e)) return;
  writeSt(cpu, 0, exponent);
  push(cpu, significand);
}

/** FPREM (quotient cut) and FPREM1 (quotient rounded to nearest). */
export function fprem(cpu: Cpu, nearest: boolean): void {
  cpu.fsw &= ~FSW_C2;
  if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const { result, quotient, partial } = partialRemainder(e, st(cpu, 0), st(cpu, 1), nearest);
  if (!report(cpu, e)) return;
  writeSt(cpu, 0, result);
  if (quotient === undefined) return;
  cpu.fsw &= ~(FSW_C0 | FSW_C1 | FSW_C3);
  if (partial) cpu.fsw |= FSW_C2;
  else {
    if (quotient & 4) cpu.fsw |= FSW_C0;
    if (quotient & 2) cpu.fsw |= FSW_C3;
    if (quotient & 1) cpu.fsw |= FSW_C1;
  }
}

/** C3, C2, C0 of a relation of ST(0) to the source. */
function setRelation(cpu: Cpu, relation: Relation): void {
  cpu.fsw &= ~(FSW_C0 | FSW_C2 | FSW_C3);
  if (relation === LESS) cpu.fsw |= FSW_C0;
  else if (relation === EQUAL) cpu.fsw |= FSW_C3;
  else if (relation === UNORDERED) cpu.fsw |= FSW_C0 | FSW_C2 | FSW_C3;
}

function popTimes(cpu: Cpu, pops: number): void {
  for (let i = 0; i < pops; i++) pop(cpu);
}

/**
 * FCOM, FUCOM (`quiet`), FICOM, FTST and their popping forms. `y` undefined: an empty register. The relation is told even where
 * an unmasked exception keeps the registers from being popped (measured).
 */
function compareWith(cpu: Cpu, y: Real | undefined, quiet: boolean, pops: number): void {
  if (isEmpty(cpu, 0) || y === undefined) {
    setRelation(cpu, UNORDERED);
    if (!stackFault(cpu, false)) return;
  } else {
    const e = begin(cpu);
    setRelation(cpu, compare(e, st(cpu, 0), y, !quiet));
    if (!report(cpu, e)) return;
  }
  popTimes(cpu, pops);
}

export function compareMemory(cpu: Cpu, y: Real, pops: number): void {
  compareWith(cpu, y, false, pops);
}

export function compareRegister(cpu: Cpu, i: number, quiet: boolean, pops: number): void {
  compareWith(cpu, isEmpty(cpu, i) ? undefined : st(cpu, i), quiet, pops);
}

/** FTST: ST(0) compared with 0.0. */
export function ftst(cpu: Cpu): void {
  compareWith(cpu, real(ZERO, false), false, 0);
}

const ARITHMETIC_FLAGS = 0x8d5n;
const CF_PF_ZF = 0x45n;

/**
 * FCOMI, FUCOMI (`quiet`): to ZF, PF and CF; OF, SF and AF are cleared. Flags are set even where an unmasked exception keeps the
 * register from being popped, and C1 tells of stack faults alone (measured).
 */
export function compareToFlags(cpu: Cpu, i: number, quiet: boolean, pops: number): void {
  let relation: Relation = UNORDERED;
  let completes: boolean;
  if (isEmpty(cpu, 0) || isEmpty(cpu, i)) {
    completes = stackFault(cpu, false);
  } else {
    const c1 = cpu.fsw & FSW_C1;
    const e = begin(cpu);
    relation = compare(e, st(cpu, 0), st(cpu, i), !quiet);
    completes = report(cpu, e);
    cpu.fsw |= c1;
  }
  const flags = relation === UNORDERED ? CF_PF_ZF : relation === EQUAL ? 0x40n : relation === LESS ? 1n : 0n;
  writeFlags(cpu, (readFlags(cpu) & ~ARITHMETIC_FLAGS) | flags);
  if (completes) popTimes(cpu, pops);
}

/** FXAM: the class of ST(0) in C3, C2, C0, its sign in C1, an empty register's too. */
export function fxam(cpu: Cpu, x: Real, raw: bigint): void {
  setC1(cpu, raw >> 79n !== 0n);
  cpu.fsw &= ~(FSW_C0 | FSW_C2 | FSW_C3);
  if (isEmpty(cpu, 0)) {
    cpu.fsw |= FSW_C3 | FSW_C0;
    return;
  }
  cpu.fsw |= [FSW_C3, FSW_C2, FSW_C2 | FSW_C0, FSW_C0, FSW_C0, 0][x.kind];
  if (x.denormal) cpu.fsw |= FSW_C3;
}
