/** The MultiProcessor table. Intel MultiProcessor Specification 1.4, chapter 4. */
import { describe, expect, it } from 'vitest';
import { MP_FLOATING_POINTER, mpTable } from './mp-table.ts';

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const text = (bytes: Uint8Array, from: number, length: number) =>
  String.fromCharCode(...bytes.subarray(from, from + length));
/** Sizes of entries by type (MP specification table 4-3). */
const SIZES = [20, 8, 8, 8, 8];

describe.each([1, 4, 64])('the MP table of %i processors', (cpus) => {
  const [pointer, table] = mpTable(cpus, 0x663);
  const view = new DataView(table.bytes.buffer);

  it('is found by its floating pointer, at a 16-byte boundary of the BIOS range', () => {
    expect(pointer.address).toBe(MP_FLOATING_POINTER);
    expect(text(pointer.bytes, 0, 4)).toBe('_MP_');
    expect(new DataView(pointer.bytes.buffer).getUint32(4, true)).toBe(table.address);
    expect(pointer.bytes.length).toBe(16);
    expect([...pointer.bytes.subarray(8, 10)]).toEqual([1, 4]);
    expect(sum(pointer.bytes)).toBe(0);
  });

  it('has a right length, count and checksum, within the ROM', () => {
    expect(text(table.bytes, 0, 4)).toBe('PCMP');
    expect(view.getUint16(4, true)).toBe(table.bytes.length);
    expect(sum(table.bytes)).toBe(0);
    expect(view.getUint32(36, true)).toBe(0xfee0_0000);
    let count = 0;
    let at = 44;
    for (; at < table.bytes.length; at += SIZES[table.bytes[at]]) count++;
    expect(at).toBe(table.bytes.length);
    expect(view.getUint16(34, true)).toBe(count);
    expect(table.address + table.bytes.length).toBeLessThanOrEqual(0x10_0000);
  });

  it('names each processor, the first as the bootstrap one', () => {
    for (let i = 0; i < cpus; i++)
      expect([...table.bytes.subarray(44 + i * 20, 48 + i * 20)]).toEqual([0, i, 0x14, i === 0 ? 3 : 1]);
    expect(table.bytes[44 + cpus * 20]).toBe(1);
    expect(text(table.bytes, 44 + cpus * 20 + 2, 6)).toBe('ISA   ');
  });
});
