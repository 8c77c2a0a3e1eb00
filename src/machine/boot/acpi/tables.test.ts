/** ACPI's tables: that each can be found from the RSDP, has its checksum, and says what the board is. */
import { describe, expect, it } from 'vitest';
import { mpTable } from '../mp-table.ts';
import type { Piece } from '../plan.ts';
import { RSDP_ADDRESS, TABLES_END } from './layout.ts';
import { acpiTables } from './tables.ts';

const FROM = 0xf_0000;

function memory(cpus: number): DataView {
  const bytes = new Uint8Array(TABLES_END - FROM);
  for (const piece of acpiTables(cpus)) bytes.set(piece.bytes, piece.address - FROM);
  return new DataView(bytes.buffer);
}

const text = (view: DataView, at: number, length: number) =>
  String.fromCharCode(...new Uint8Array(view.buffer, at - FROM, length));

function sum(view: DataView, at: number, length: number): number {
  return new Uint8Array(view.buffer, at - FROM, length).reduce((total, byte) => (total + byte) & 0xff, 0);
}

/** Address of each table by its signature. */
function tables(view: DataView): Map<string, number> {
  const at = RSDP_ADDRESS - FROM;
  const xsdt = Number(view.getBigUint64(at + 24, true));
  const count = (view.getUint32(xsdt - FROM + 4, true) - 36) / 8;
  const found = new Map([
    ['XSDT', xsdt],
    ['RSDT', view.getUint32(at + 16, true)],
  ]);
  for (let i = 0; i < count; i++) {
    const address = Number(view.getBigUint64(xsdt - FROM + 36 + i * 8, true));
    found.set(text(view, address, 4), address);
  }
  found.set('DSDT', Number(view.getBigUint64((found.get('FACP') ?? 0) - FROM + 140, true)));
  return found;
}

describe.each([1, 4, 64])('of %i processors', (cpus) => {
  const view = memory(cpus);

  it('are found and whole', () => {
    expect(text(view, RSDP_ADDRESS, 8)).toBe('RSD PTR ');
    expect([sum(view, RSDP_ADDRESS, 20), sum(view, RSDP_ADDRESS, 36)]).toEqual([0, 0]);
    const found = tables(view);
    expect([...found.keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'HPET', 'MCFG', 'RSDT', 'XSDT']);
    for (const [signature, address] of found) {
      expect(text(view, address, 4)).toBe(signature);
      expect(sum(view, address, view.getUint32(address - FROM + 4, true))).toBe(0);
    }
  });

  it('the RSDT names the same tables as the XSDT', () => {
    const found = tables(view);
    const [rsdt, xsdt] = ['RSDT', 'XSDT'].map((name) => (found.get(name) ?? 0) - FROM);
    const count = (view.getUint32(xsdt + 4, true) - 36) / 8;
    for (let i = 0; i < count; i++)
      expect(view.getUint32(rsdt + 36 + i * 4, true)).toBe(
        Number(view.getBigUint64(xsdt + 36 + i * 8, true)),
      );
  });

  it('the MADT has each processor, the I/O APIC and the overrides', () => {
    const at = (tables(view).get('APIC') ?? 0) - FROM;
    const kinds: number[] = [];
    for (let entry = at + 44; entry < at + view.getUint32(at + 4, true); entry += view.getUint8(entry + 1))
      kinds.push(view.getUint8(entry));
    expect(kinds).toEqual([...Array<number>(cpus).fill(0), 1, 2, 2, 4]);
  });

  it('overlap neither each other nor the MP table', () => {
    const end = ({ address, bytes }: Piece) => address + bytes.length;
    const pieces = [...acpiTables(cpus), ...mpTable(cpus, 0x663)].sort((a, b) => a.address - b.address);
    for (let i = 1; i < pieces.length; i++)
      expect(pieces[i].address).toBeGreaterThanOrEqual(end(pieces[i - 1]));
  });
});

it('the FADT gives the registers where the power-management device has them', () => {
  const view = memory(1);
  const at = (tables(view).get('FACP') ?? 0) - FROM;
  expect(view.getUint32(at + 4, true)).toBe(244);
  expect([56, 64, 76].map((field) => view.getUint32(at + field, true))).toEqual([0x600, 0x604, 0x608]);
  expect([148, 172, 208].map((field) => Number(view.getBigUint64(at + field + 4, true)))).toEqual([
    0x600, 0x604, 0x608,
  ]);
  // The reset register: system I/O, 8 bits, port CF9H, value 6.
  expect([view.getUint8(at + 116), view.getUint8(at + 117), view.getUint8(at + 120)]).toEqual([1, 8, 0xf9]);
  expect(view.getUint8(at + 128)).toBe(6);
});
