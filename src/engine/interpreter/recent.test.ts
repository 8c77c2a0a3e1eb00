import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Recent } from './recent.ts';

it('keeps at the most so many values, those used last among them', () => {
  const most = 8;
  fc.assert(
    fc.property(fc.array(fc.nat(20), { maxLength: 200 }), (keys) => {
      const recent = new Recent<number, { key: number }>(most);
      const made: number[] = [];
      let last: number[] = [];
      for (const key of keys) {
        const before = made.length;
        const value = recent.get(key, () => {
          made.push(key);
          return { key };
        });
        expect(value.key).toBe(key);
        if (last.includes(key)) expect(made.length, 'made anew').toBe(before);
        expect(recent.size).toBeLessThanOrEqual(most);
        last = [key, ...last.filter((other) => other !== key)].slice(0, most / 2);
      }
    }),
  );
});
