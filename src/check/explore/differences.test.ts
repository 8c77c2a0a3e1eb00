import fc from 'fast-check';
import { expect, it } from 'vitest';
import { equalBut } from './differences.ts';

it('two arrays are equal in a range of dwords but for those that may differ, as a loop over them says', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1024 }),
      fc.array(fc.nat(4095), { maxLength: 6 }),
      fc.tuple(fc.nat(1024), fc.nat(1024)),
      fc.array(fc.nat(1023), { maxLength: 4 }),
      (length, changes, [x, y], allowed) => {
        const a = Uint8Array.from({ length: length * 4 }, (_, i) => i * 7);
        const b = a.slice();
        for (const at of changes) b[at % b.length] ^= 0x40;
        const [start, end] = [Math.min(x, y, length), Math.min(Math.max(x, y), length)];
        const [p, q] = [new Uint32Array(a.buffer), new Uint32Array(b.buffer)];
        const asked: number[] = [];
        const expected = p.every(
          (value, i) => i < start || i >= end || value === q[i] || allowed.includes(i),
        );
        expect(
          equalBut(a, b, start, end, (dword) => {
            asked.push(dword);
            return allowed.includes(dword);
          }),
        ).toBe(expected);
        for (const dword of asked) expect(p[dword]).not.toBe(q[dword]);
      },
    ),
    { numRuns: 500 },
  );
});
