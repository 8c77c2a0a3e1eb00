/** Four-level and PAE page tables. SDM Vol. 3A, Sections 4.4 and 4.5. */
import { describe, expect, it } from 'vitest';
import { PageTables, pte } from './page-tables.ts';

const BASE = 0x20_0000n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

describe('PageTables', () => {
  it('maps a 4 KiB page through a table at each level (SDM Vol. 3A, Figure 4-8)', () => {
    const tables = new PageTables(BASE);
    const root = tables.newTable();
    const linear = 0xffff_c900_0300_2000n;
    tables.map(root, linear, 0x12_3000n, 4096, { write: true });
    let table = root;
    for (const shift of [39n, 30n, 21n]) {
      const entry = tables.table(table)[Number((linear >> shift) & 0x1ffn)];
      expect(entry & 0xfffn & ~pte.accessed).toBe(pte.present | pte.write | pte.user);
      table = entry & ADDRESS;
    }
    expect(tables.table(table)[2]).toBe(
      0x12_3000n | pte.present | pte.write | pte.accessed | pte.dirty | pte.noExecute,
    );
    expect(tables.bytes().length).toBe(4 * 4096);
  });

  const permissions: [Parameters<PageTables['map']>[4], bigint][] = [
    [{}, pte.noExecute],
    [{ execute: true }, 0n],
    [{ user: true }, pte.user | pte.noExecute],
    [{ write: true, cacheDisable: true }, pte.write | pte.cacheDisable | pte.noExecute],
  ];
  it.each(permissions)('gives %j its bits (SDM Vol. 3A, Table 4-20)', (permission, bits) => {
    const tables = new PageTables(BASE, 3);
    const root = tables.newTable();
    tables.map(root, 0x1000n, 0x5000n, 4096, permission);
    const last = new DataView(tables.bytes().buffer).getBigUint64(2 * 4096 + 8, true);
    expect(last).toBe(0x5000n | pte.present | pte.accessed | pte.dirty | bits);
  });

  it('maps 2 MiB pages one level up', () => {
    const tables = new PageTables(BASE);
    const root = tables.newTable();
    tables.mapLarge(root, 0n, 0n, 0x40_0000, { write: true });
    const directory = tables.table(BASE + 2n * 4096n);
    expect(directory[1]).toBe(
      0x20_0000n | pte.present | pte.write | pte.large | pte.accessed | pte.dirty | pte.noExecute,
    );
    expect(() => tables.map(root, 0x1000n, 0n, 4096, {})).toThrow(/large page/);
  });

  it('refuses to map a page twice and to look for tables that it did not make', () => {
    const tables = new PageTables(BASE);
    const root = tables.newTable();
    tables.map(root, 0n, 0n, 4096, {});
    expect(() => tables.map(root, 0n, 0x1000n, 4096, {})).toThrow(/mapped twice/);
    expect(() => tables.table(0n)).toThrow(RangeError);
  });
});
