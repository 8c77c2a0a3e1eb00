/** Conditions on the order of two quadwords, as a conditional jump after CMP asks for it (SDM vol. 1 appendix B). */
import { ConditionCode } from 'iced-x86';
import type { Cpu } from '../../arch/cpu.ts';
import { offsetOf } from '../../isa/state.ts';

const GPR_DWORD = offsetOf('gpr') / 4;
const RIP_DWORD = offsetOf('rip') / 4;

/** The number of RIP among unknowns, beyond those of the general-purpose registers. */
export const RIP = 16;

/** A condition on an unknown: how it compares with a value. */
export interface Comparison {
  /** A general-purpose register's number, or {@link RIP}. */
  readonly unknown: number;
  /** The value's dwords. */
  readonly high: number;
  readonly low: number;
  /** The unknown is the left operand. */
  readonly left: boolean;
  readonly condition: ConditionCode;
  readonly holds: boolean;
}

/** The dwords of a quadword, unsigned. */
export const highOf = (quadword: bigint): number => Number(BigInt.asUintN(32, quadword >> 32n));
export const lowOf = (quadword: bigint): number => Number(BigInt.asUintN(32, quadword));

/**
 * Whether quadwords `a` and `b` are as a condition says after CMP a, b; undefined for one that asks for more than their order.
 * @param aHigh, aLow, bHigh, bLow their dwords, unsigned
 */
export function isSo(
  condition: ConditionCode,
  aHigh: number,
  aLow: number,
  bHigh: number,
  bLow: number,
): boolean | undefined {
  const equal = aHigh === bHigh && aLow === bLow;
  const below = aHigh === bHigh ? aLow < bLow : aHigh < bHigh;
  const less = aHigh === bHigh ? aLow < bLow : (aHigh | 0) < (bHigh | 0);
  switch (condition) {
    case ConditionCode.e:
      return equal;
    case ConditionCode.ne:
      return !equal;
    case ConditionCode.b:
      return below;
    case ConditionCode.ae:
      return !below;
    case ConditionCode.be:
      return below || equal;
    case ConditionCode.a:
      return !below && !equal;
    case ConditionCode.l:
      return less;
    case ConditionCode.ge:
      return !less;
    case ConditionCode.le:
      return less || equal;
    case ConditionCode.g:
      return !less && !equal;
    default:
      return undefined;
  }
}

/** Whether a comparison has its result at the state in which a processor is. */
export function compares(
  { unknown, high, low, left, condition, holds }: Comparison,
  { u32 }: Pick<Cpu, 'u32'>,
): boolean {
  const at = unknown === RIP ? RIP_DWORD : GPR_DWORD + 2 * unknown;
  const [presentHigh, presentLow] = [u32[at + 1], u32[at]];
  const so = left
    ? isSo(condition, presentHigh, presentLow, high, low)
    : isSo(condition, high, low, presentHigh, presentLow);
  return so === holds;
}
