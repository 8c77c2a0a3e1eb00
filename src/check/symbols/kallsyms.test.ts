/** Symbol tables as kernels have them in memory, written by what the format says and found again. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { readKallsyms } from './kallsyms.ts';
import { mapNames } from './system-map.ts';

interface Entry {
  readonly address: bigint;
  readonly type: string;
  readonly name: string;
}

interface Form {
  /** Offsets stand after the tokens (6.4 and later), not before the names. */
  readonly offsetsLast: boolean;
  /** Per-CPU symbols are absolute, the others counted down from -1. */
  readonly absolutes: boolean;
  /** Something stands between the markers and the tokens (6.2 has it). */
  readonly gap: number;
  /** What is there before: as much as it takes, and with digits in a row. */
  readonly before: number;
}

const BASE = 0xffff_ffff_8100_0000n;
/** Tokens of more than one character, at numbers of characters that do not occur in names. */
const LONG = new Map([
  [1, 'sys_'],
  [2, 'native_'],
  [200, 'irq'],
  [255, 'T'],
]);

function encode(symbols: readonly Entry[], { offsetsLast, absolutes, gap, before }: Form): Uint8Array {
  const bytes: number[] = Array.from({ length: before }, (_, i) => i & 0xff);
  bytes.push(0, ...Array.from({ length: 10 }, (_, i) => [0x30 + i, 0]).flat());
  const align = () => {
    while (bytes.length % 8 !== 0) bytes.push(0);
  };
  const word = (value: bigint, size: number) => {
    for (let i = 0; i < size; i++) bytes.push(Number((BigInt.asUintN(64, value) >> BigInt(8 * i)) & 0xffn));
  };
  const offsets = () => {
    align();
    for (const { address } of symbols)
      word(!absolutes ? address - BASE : address < BASE ? address : BASE - 1n - address, 4);
    align();
    word(BASE, 8);
  };
  const texts = Array.from(
    { length: 256 },
    (_, i) => LONG.get(i) ?? (i > 0x20 && i < 0x7f ? String.fromCharCode(i) : ''),
  );
  const tokensOf = (text: string): number[] => {
    if (text === '') return [];
    const [number, long] = [...LONG].find(([, each]) => text.startsWith(each)) ?? [
      text.charCodeAt(0),
      text[0],
    ];
    return [number, ...tokensOf(text.slice(long.length))];
  };
  if (!offsetsLast) offsets();
  align();
  word(BigInt(symbols.length), 4);
  align();
  const start = bytes.length;
  const markers: number[] = [];
  symbols.forEach(({ type, name }, i) => {
    if (i % 256 === 0) markers.push(bytes.length - start);
    const tokens = tokensOf(type + name);
    if (tokens.length < 0x80) bytes.push(tokens.length);
    else bytes.push((tokens.length & 0x7f) | 0x80, tokens.length >> 7);
    bytes.push(...tokens);
  });
  align();
  for (const marker of markers) word(BigInt(marker), 4);
  align();
  for (let i = 0; i < gap; i++) bytes.push(i % 251);
  bytes.push(0);
  align();
  const index: number[] = [];
  const table = bytes.length;
  for (const text of texts) {
    index.push(bytes.length - table);
    bytes.push(...Array.from(text, (c) => c.charCodeAt(0)), 0);
  }
  align();
  for (const offset of index) word(BigInt(offset), 2);
  if (offsetsLast) offsets();
  align();
  return Uint8Array.from(bytes);
}

const names = fc.stringMatching(/^[a-z_][a-z0-9_.]{0,8}$/);
const entries = fc.tuple(
  fc.array(fc.tuple(names, fc.constantFrom(...'TtDdBbRr'), fc.integer({ min: 0, max: 0xffff })), {
    minLength: 1,
    maxLength: 600,
  }),
  fc.boolean(),
);
const forms = fc.record({
  offsetsLast: fc.boolean(),
  absolutes: fc.boolean(),
  gap: fc.integer({ min: 0, max: 50 }),
  before: fc.integer({ min: 0, max: 300 }),
});

it('are found, whatever order and offsets they have', () => {
  fc.assert(
    fc.property(entries, forms, ([list, perCpu], form) => {
      let address = BASE;
      const symbols: Entry[] = [];
      if (form.absolutes && perCpu) symbols.push({ address: 0x15000n, type: 'A', name: 'percpu' });
      for (const [name, type, distance] of list) {
        address += BigInt(distance);
        symbols.push({ address, type, name });
      }
      symbols.push({ address, type: 'T', name: `sys_${'native_x'.repeat(90)}` });
      expect(readKallsyms(encode(symbols, form))).toEqual(mapNames(symbols));
    }),
    { numRuns: 40 },
  );
});

it('are not found where there are none, or only a part', () => {
  const form = { offsetsLast: false, absolutes: true, gap: 0, before: 0 };
  const whole = encode([{ address: BASE + 5n, type: 'T', name: 'sys_one' }], form);
  expect(readKallsyms(whole)).toBeDefined();
  expect(readKallsyms(whole.subarray(0, whole.length - 8))).toBeUndefined();
  expect(readKallsyms(new Uint8Array(4096))).toBeUndefined();
  expect(
    readKallsyms(new TextEncoder().encode('0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00')),
  ).toBeUndefined();
});
