/** Encodings as ACPI specification 6.4, chapters 6.4 and 20, gives them; the bytes are what ACPICA's iasl makes of the terms. */
import { describe, expect, it } from 'vitest';
import * as aml from './aml.ts';

const hex = (bytes: aml.Aml) => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');

it.each<[string, aml.Aml, string]>([
  ['Name (_BBN, Zero)', aml.name('_BBN', 0), '085f42424e00'],
  ['Name (_UID, One)', aml.name('_UID', 1), '085f55494401'],
  ['Name (A, 0xFF)', aml.name('A', 0xff), '08415f5f5f0aff'],
  ['Name (A, 0x100)', aml.name('A', 0x100), '08415f5f5f0b0001'],
  ['Name (A, 0x89ABCDEF)', aml.name('A', 0x89ab_cdef), '08415f5f5f0cefcdab89'],
  ['Name (A, "hi")', aml.name('A', 'hi'), '08415f5f5f0d686900'],
  ['EISAID ("PNP0A08")', aml.eisaId('PNP0A08'), '0c41d00a08'],
  ['EISAID ("PNP0501")', aml.eisaId('PNP0501'), '0c41d00501'],
  ['Package () {5, 0}', aml.aPackage(5, 0), '1205020a0500'],
  ['Scope (\\_SB) {}', aml.scope('\\_SB'), '10065c5f53425f'],
  ['Device (PCI0) {}', aml.device('PCI0'), '5b820550434930'],
  ['IO (Decode16, 0x3F8, 0x3F8, 1, 8)', aml.ioPorts(0x3f8, 8), '4701f803f8030108'],
  ['IRQNoFlags () {4}', aml.irq(4), '221000'],
  ['Memory32Fixed', aml.fixedMemory(0xfed0_0000, 0x400), '860900010000d0fe00040000'],
  ['WordBusNumber', aml.busNumbers(0, 1), '880d00020c0000000000000000000100'],
  ['WordIO', aml.ioWindow(0x1000, 0xf000), '880d00010c0300000010ffff000000f0'],
  [
    'DWordMemory',
    aml.memoryWindow(0xe000_0000, 0x1000_0000),
    '871700000c0100000000000000e0ffffffef0000000000000010',
  ],
  ['ResourceTemplate () {}', aml.resources(), '11050a027900'],
])('%s', (_term, bytes, expected) => {
  expect(hex(bytes)).toBe(expected);
});

describe('lengths count themselves (20.2.4)', () => {
  it.each([0, 58, 59, 60, 4087, 4088, 4090, 70_000])('a body of %i bytes', (size) => {
    const bytes = aml.device('ABCD', new Array<number>(size).fill(0xa3));
    const [head] = bytes.slice(2);
    const extra = head >> 6;
    let length = extra === 0 ? head & 0x3f : head & 15;
    for (let i = 0; i < extra; i++) length |= bytes[3 + i] << (4 + 8 * i);
    expect(length).toBe(bytes.length - 2);
  });
});

it.each(['abcd', 'TOOLONG', '1ABC', '', 'A B'])('refuses the name %j', (bad) => {
  expect(() => aml.name(bad, 0)).toThrow(RangeError);
});

it('refuses what is no EISA identifier', () => {
  expect(() => aml.eisaId('PNP123')).toThrow(RangeError);
});
