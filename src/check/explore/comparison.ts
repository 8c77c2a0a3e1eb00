/** Conditions on the order of two quadwords, as a conditional jump after CMP asks for it (SDM vol. 1 appendix B). */
import { ConditionCode } from 'iced-x86';
import type { Cpu } from '../../arch/cpu.ts';

/** The number of RIP among unknowns, beyond those of the general-purpose registers. */
export const RIP = 16;

/** A condition on an unknown: how it compares with a value. */
export interface Comparison {
  /** A general-purpose register's number, or {@link RIP}. */
  readonly unknown: number;
  readonly value: bigint;
  /** The unknown is the left operand. */
  readonly left: boolean;
  readonly condition: ConditionCode;
  readonly holds: boolean;
}

/** Whether `a` and `b` are as a condition says after CMP a, b; undefined for one that asks for more than their order. */
export function isSo(condition: ConditionCode, a: bigint, b: bigint): boolean | undefined {
  switch (condition) {
    case ConditionCode.e:
      return a === b;
    case ConditionCode.ne:
      return a !== b;
    case ConditionCode.b:
      return a < b;
    case ConditionCode.ae:
      return a >= b;
    case ConditionCode.be:
      return a <= b;
    case ConditionCode.a:
      return a > b;
    case ConditionCode.l:
      return BigInt.asIntN(64, a) < BigInt.asIntN(64, b);
    case ConditionCode.ge:
      return BigInt.asIntN(64, a) >= BigInt.asIntN(64, b);
    case ConditionCode.le:
      return BigInt.asIntN(64, a) <= BigInt.asIntN(64, b);
    case ConditionCode.g:
      return BigInt.asIntN(64, a) > BigInt.asIntN(64, b);
    default:
      return undefined;
  }
}

/** Whether a comparison has its result at the state in which a processor is. */
export function compares(
  { unknown, value, left, condition, holds }: Comparison,
  cpu: Cpu,
  rip: bigint,
): boolean {
  const present = unknown === RIP ? rip : cpu.gpr[unknown];
  return isSo(condition, left ? present : value, left ? value : present) === holds;
}
