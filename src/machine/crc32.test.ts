/** CRC-32 against its check value, and bit by bit. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { crc32 } from './crc32.ts';

it('of "123456789" is its check value', () => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf4_3926);
});

it('is the remainder that its polynomial leaves', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      let c = 0xffff_ffff;
      for (const byte of bytes) {
        c ^= byte;
        for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb8_8320 : c >>> 1;
      }
      expect(crc32(bytes)).toBe(~c >>> 0);
    }),
  );
});
