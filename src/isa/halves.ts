/** The 32-bit halves of a 64-bit value as numbers, without a BigInt being made on the way. */

const whole = new BigUint64Array(1);
const halves = new Uint32Array(whole.buffer);

/** Bits 31:0. */
export function lowHalf(value: bigint): number {
  whole[0] = value;
  return halves[0];
}

/** Bits 63:32. */
export function highHalf(value: bigint): number {
  whole[0] = value;
  return halves[1];
}
