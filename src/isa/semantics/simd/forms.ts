/**
 * The shapes that instructions on vectors come in. Memory operands of 128 bits must be aligned but for those of the unaligned
 * moves and of PCMPxSTRx (SDM vol. 1 10.4.1.1, vol. 2A 2.4). Instructions on MM registers look for a pending x87 exception
 * first, and leave the x87 registers valid and TOP 0 (vol. 1 9.5.1, 9.6.2).
 *
 * Whether the processor's state permits them at all (CR0.EM, CR0.TS, CR4.OSFXSR) is decided when they are decoded.
 */
import type { Builder, Semantic, Value } from '../../builder.ts';

/** What becomes of 128 bits of the first and of the second source; of a YMM register's halves the upper is `part` 1. */
export type Combination = (b: Builder, x: Value, y: Value, part: number) => Value;

/** The form has an operand in an MM register: its vectors are of 64 bits, in the low half of a 128-bit value. */
export function isMmx(b: Builder): boolean {
  return b.form.operands.some(({ kind }) => kind === 'mm');
}

/** `meaning` with what an instruction on MM registers does beside. */
export function withX87(b: Builder, meaning: () => void): void {
  const mmx = isMmx(b);
  if (mmx) b.checkX87();
  meaning();
  if (mmx) b.setX87('valid');
}

/** The last operand that is no immediate: the source. */
export function sourceOperand(b: Builder): number {
  const { operands } = b.form;
  return operands[operands.length - 1].kind === 'immediate' ? operands.length - 2 : operands.length - 1;
}

/** The first source: the destination, or with VEX the operand after it. */
export function firstOperand(b: Builder): number {
  return b.form.vex && sourceOperand(b) === 2 ? 1 : 0;
}

/** Two sources give the destination. */
export function binary(combine: Combination): Semantic {
  return (b) =>
    withX87(b, () => {
      const ys = b.readVector(sourceOperand(b), !b.form.vex);
      const xs = b.readVector(firstOperand(b));
      b.writeVector(
        0,
        xs.map((x, i) => combine(b, x, ys[i], i)),
      );
    });
}

/** The source gives the destination. */
export function unary(make: (b: Builder, x: Value, part: number) => Value): Semantic {
  return (b) =>
    withX87(b, () => {
      const xs = b.readVector(sourceOperand(b), !b.form.vex);
      b.writeVector(
        0,
        xs.map((x, i) => make(b, x, i)),
      );
    });
}

/** The vector of zeros. */
export function zero(b: Builder): Value {
  return b.constant(128, 0);
}

/** `x` where the bits of `mask` are ones, else `y`. */
export function blend(b: Builder, mask: Value, x: Value, y: Value): Value {
  return b.or(b.and(mask, x), b.and(b.not(mask), y));
}

/** The vector with `value` in every lane of `lane` bits. */
export function every(b: Builder, lane: 8 | 16 | 32 | 64, value: bigint | number): Value {
  const one = BigInt.asUintN(lane, BigInt(value));
  let all = 0n;
  for (let at = 0; at < 128; at += lane) all |= one << BigInt(at);
  return b.constant(128, all);
}

/** Bytes of a shuffle that takes whole lanes: lane numbers count on from one operand to the next. */
export function lanesToBytes(lane: 8 | 16 | 32 | 64, lanes: readonly number[]): number[] {
  const bytes = lane / 8;
  return lanes.flatMap((number) => Array.from({ length: bytes }, (_, i) => number * bytes + i));
}
