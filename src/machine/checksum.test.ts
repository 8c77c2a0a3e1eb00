import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checksum } from './checksum.ts';

const bytes = fc.uint8Array({ minLength: 1, maxLength: 100 });

test('a change of one bit changes it', () => {
  fc.assert(
    fc.property(bytes, fc.nat(), (content, choice) => {
      const changed = content.slice();
      const bit = choice % (content.length * 8);
      changed[bit >> 3] ^= 1 << (bit & 7);
      expect(checksum(changed)).not.toBe(checksum(content));
    }),
    { numRuns: 2000 },
  );
});

test('one byte less changes it, zeros too', () => {
  for (let length = 1; length < 100; length++)
    expect(checksum(new Uint8Array(length - 1))).not.toBe(checksum(new Uint8Array(length)));
});

test('dwords that change places change it', () => {
  const content = Uint8Array.from({ length: 64 }, (_, i) => i);
  for (let i = 4; i < 64; i += 4) {
    const swapped = content.slice();
    swapped.set(content.subarray(0, 4), i);
    swapped.set(content.subarray(i, i + 4), 0);
    expect(checksum(swapped)).not.toBe(checksum(content));
  }
});

test('does not depend on where the bytes stand', () => {
  fc.assert(
    fc.property(bytes, fc.integer({ min: 0, max: 7 }), (content, offset) => {
      const shifted = new Uint8Array(content.length + offset);
      shifted.set(content, offset);
      expect(checksum(shifted.subarray(offset))).toBe(checksum(content));
    }),
  );
});
