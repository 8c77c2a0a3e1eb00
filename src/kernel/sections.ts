/** Sections of a kernel image: where each is loaded and linked, how it is mapped, and its ELF segment. */

import type { Linked } from './assembler.ts';
import type { Segment } from './elf.ts';
import { LOAD_ADDRESS, PAGE_SIZE, TRAMPOLINE, USER_RODATA, USER_TEXT } from './layout.ts';
import type { PageTables, Permissions } from './page-tables.ts';

/** How a section gets into memory: what it may be used for, in file order. */
const plan: readonly {
  readonly name: string;
  readonly linear?: bigint;
  readonly permissions?: Permissions;
}[] = [
  // Run at its physical address, under the boot page tables alone.
  { name: '.boot' },
  { name: '.text', permissions: { execute: true } },
  { name: '.rodata', permissions: {} },
  { name: '.trampoline', linear: TRAMPOLINE },
  { name: '.user.text', linear: USER_TEXT, permissions: { execute: true, user: true } },
  { name: '.user.rodata', linear: USER_RODATA, permissions: { user: true } },
  { name: '.data', permissions: { write: true } },
  { name: '.bss', permissions: { write: true } },
];

const alignUp = (value: bigint, boundary = BigInt(PAGE_SIZE)) =>
  ((value + boundary - 1n) / boundary) * boundary;

/** The sections of one image in memory. The page tables lie between `.data` and `.bss`. */
export class Sections {
  /** Linear addresses, for the linker. */
  readonly place = new Map<string, bigint>();
  /** Physical address and bytes of the page tables. */
  readonly tablesAt: bigint;
  readonly tablesSize: number;
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #physical = new Map<string, bigint>();

  /** `sizes` in bytes; kernel sections are linked at physical address + `kernelBase`. */
  constructor(sizes: ReadonlyMap<string, number>, kernelBase: bigint, tablePages: number) {
    this.#sizes = sizes;
    this.tablesSize = tablePages * PAGE_SIZE;
    let at = LOAD_ADDRESS;
    let tablesAt = at;
    for (const { name, linear } of plan) {
      if (name === '.bss') {
        tablesAt = at;
        at += BigInt(this.tablesSize);
      }
      this.#physical.set(name, at);
      this.place.set(name, linear ?? (name === '.boot' ? at : kernelBase + at));
      at = alignUp(at + BigInt(this.size(name)));
    }
    this.tablesAt = tablesAt;
  }

  /** Bytes of a section; zero if the image has none of that name. */
  size(name: string): number {
    return this.#sizes.get(name) ?? 0;
  }

  /** Physical address of a section. */
  physical(name: string): bigint {
    return this.#physical.get(name) as bigint;
  }

  /** Maps every section that the kernel needs after boot. */
  map(tables: PageTables, root: bigint): void {
    for (const { name, permissions } of plan)
      if (permissions !== undefined)
        tables.map(root, this.place.get(name) as bigint, this.physical(name), this.size(name), permissions);
  }

  /** What a boot loader loads. Raises a RangeError if the tables do not fit. */
  segments(linked: Linked, tableBytes: Uint8Array): Segment[] {
    if (tableBytes.length > this.tablesSize) throw new RangeError('too many page-table pages');
    const tables = { address: this.tablesAt, bytes: tableBytes, memorySize: this.tablesSize, write: true };
    return plan.flatMap(({ name, permissions }): Segment[] => {
      const memorySize = this.size(name);
      const address = this.physical(name);
      const write = permissions?.write ?? false;
      if (name === '.bss') return [tables, { address, bytes: new Uint8Array(), memorySize, write }];
      if (memorySize === 0) return [];
      const bytes = linked.sections.get(name)?.bytes ?? new Uint8Array();
      const execute = permissions === undefined || (permissions.execute ?? false);
      return [{ address, bytes, memorySize, write, execute }];
    });
  }
}
