/** x87 transcendental instructions. SDM vol. 1 8.3.7 to 8.3.10; vol. 2A "F2XM1", "FCOS", "FPATAN", "FPTAN", "FSIN", "FYL2X"... */
import type { Environment } from '../isa/float/environment.ts';
import { FINITE, type Real, ZERO } from '../isa/float/format.ts';
import {
  arcTangentOf,
  cosine,
  logarithmPlusOneTimes,
  logarithmTimes,
  powerMinusOne,
  sine,
  sineAndCosine,
  tangent,
} from '../isa/float/transcendental.ts';
import type { Cpu } from './cpu.ts';
import {
  begin,
  FSW_C2,
  INDEFINITE,
  isEmpty,
  pop,
  push,
  report,
  setC1,
  st,
  stackFault,
  writeSt,
} from './x87-stack.ts';

const ONE = 0x3fff_8000_0000_0000_0000n;

/** Out of range: C2 is set, and ST(0) left as it is. */
function outOfRange(cpu: Cpu): void {
  cpu.fsw |= FSW_C2;
  setC1(cpu, false);
}

/** ST(0) = f(ST(0)); undefined: out of range. */
function unary(cpu: Cpu, f: (e: Environment, x: Real) => bigint | undefined, reduces: boolean): void {
  if (reduces) cpu.fsw &= ~FSW_C2;
  if (isEmpty(cpu, 0)) {
    if (stackFault(cpu, false)) writeSt(cpu, 0, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const result = f(e, st(cpu, 0));
  if (result === undefined) {
    outOfRange(cpu);
    return;
  }
  if (report(cpu, e)) writeSt(cpu, 0, result);
}

/** ST(1) = f(ST(0), ST(1)), and a pop. */
function binary(cpu: Cpu, f: (e: Environment, x: Real, y: Real) => bigint): void {
  let result = INDEFINITE;
  if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) {
    if (!stackFault(cpu, false)) return;
  } else {
    const e = begin(cpu);
    result = f(e, st(cpu, 0), st(cpu, 1));
    if (!report(cpu, e)) return;
  }
  writeSt(cpu, 1, result);
  pop(cpu);
}

/** FPTAN and FSINCOS: a result in ST(0)'s place, and a second pushed. */
function unaryAndPush(
  cpu: Cpu,
  f: (e: Environment, x: Real) => { below: bigint; above: bigint } | undefined,
): void {
  cpu.fsw &= ~FSW_C2;
  if (isEmpty(cpu, 0) || !isEmpty(cpu, 7)) {
    if (!stackFault(cpu, !isEmpty(cpu, 0))) return;
    writeSt(cpu, 0, INDEFINITE);
    push(cpu, INDEFINITE);
    return;
  }
  const e = begin(cpu);
  const result = f(e, st(cpu, 0));
  if (result === undefined) {
    outOfRange(cpu);
    return;
  }
  if (!report(cpu, e)) return;
  writeSt(cpu, 0, result.below);
  push(cpu, result.above);
}

export const f2xm1 = (cpu: Cpu): void => unary(cpu, powerMinusOne, false);
export const fsin = (cpu: Cpu): void => unary(cpu, sine, true);
export const fcos = (cpu: Cpu): void => unary(cpu, cosine, true);
export const fyl2x = (cpu: Cpu): void => binary(cpu, logarithmTimes);
export const fyl2xp1 = (cpu: Cpu): void => binary(cpu, logarithmPlusOneTimes);
export const fpatan = (cpu: Cpu): void => binary(cpu, (e, x, y) => arcTangentOf(e, y, x));

export const fsincos = (cpu: Cpu): void =>
  unaryAndPush(cpu, (e, x) => {
    const result = sineAndCosine(e, x);
    return result && { below: result.sine, above: result.cosine };
  });

/** FPTAN: the tangent, and then 1; a NaN comes twice. */
export const fptan = (cpu: Cpu): void =>
  unaryAndPush(cpu, (e, x) => {
    const result = tangent(e, x);
    if (result === undefined) return undefined;
    return { below: result, above: x.kind === FINITE || x.kind === ZERO ? ONE : result };
  });
