/** The machine's pseudo-random numbers. */
import { describe, expect, it } from 'vitest';
import { crc32 } from './crc32.ts';
import { Random } from './random.ts';

const take = (random: Random, n: number) => Array.from({ length: n }, () => random.next());

describe('random numbers', () => {
  it('are a function of seed and stream', () => {
    const of = (seed: number, stream: number) => take(new Random(seed, stream), 8);
    expect(of(5, 0)).toEqual(of(5, 0));
    const all = [of(5, 0), of(6, 0), of(5, 1), of(0, 0), of(2 ** 40, 0), of(2 ** 40 + 2 ** 33, 0)];
    expect(new Set(all.map(String)).size).toBe(all.length);
  });

  it('agree with the published generator', () => {
    const random = new Random(0, 0);
    random.restore(Uint32Array.of(1, 2, 3, 4));
    // rotl(s1 * 5, 7) * 9 by hand for the state {1, 2, 3, 4} and its successor {7, 0, 1026, 12288}.
    expect(take(random, 2)).toEqual([11520, 0]);
    expect([...random.save()].length).toBe(4);
  });

  it('go on from a saved state', () => {
    const random = new Random(1, 0);
    take(random, 3);
    const saved = random.save();
    const next = take(random, 5);
    random.restore(saved);
    expect(take(random, 5)).toEqual(next);
  });

  it('below stays below and reaches every value', () => {
    const random = new Random(7, 0);
    const seen = new Set(Array.from({ length: 200 }, () => random.below(5)));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4]);
  });

  it('next64 fills 64 bits', () => {
    const random = new Random(7, 0);
    let bits = 0n;
    for (let i = 0; i < 50; i++) bits |= random.next64();
    expect(bits).toBe(0xffff_ffff_ffff_ffffn);
  });
});

it('CRC-32 of "123456789" is the check value of ISO 3309', () => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf4_3926);
  expect(crc32(new Uint8Array(0))).toBe(0);
});
