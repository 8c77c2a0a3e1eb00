/**
 * The checksum of snapshot files, which are large: quicker than a CRC. Four sums run side by side over the dwords; each
 * step is a bijection of the sum and of the dword, so no change within one dword goes unnoticed.
 */

/** Odd, so that multiplying by it modulo 2^32 can be undone (the golden ratio's, as Knuth has it, TAOCP 6.4). */
const FACTOR = 0x9e37_79b1;
/** Brings high bits, which depend on all of a product, to the low ones, which do not. */
const SHIFT = 15;

/** The checksum of some bytes, unsigned. */
export function checksum(bytes: Uint8Array): number {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const dwords = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length >> 2);
  let a = 1;
  let b = 2;
  let c = 3;
  let d = 4;
  const whole = dwords.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    a = Math.imul(a ^ dwords[i], FACTOR);
    a ^= a >>> SHIFT;
    b = Math.imul(b ^ dwords[i + 1], FACTOR);
    b ^= b >>> SHIFT;
    c = Math.imul(c ^ dwords[i + 2], FACTOR);
    c ^= c >>> SHIFT;
    d = Math.imul(d ^ dwords[i + 3], FACTOR);
    d ^= d >>> SHIFT;
  }
  let sum = bytes.length | 0;
  const mix = (value: number) => {
    sum = Math.imul(sum ^ value, FACTOR);
    sum ^= sum >>> SHIFT;
  };
  for (const each of [a, b, c, d]) mix(each);
  for (let i = whole * 4; i < aligned.length; i++) mix(aligned[i]);
  return sum >>> 0;
}
