/** Bootable images of the 32-bit espfix kernel: Multiboot 1 and PVH, protected mode with PAE paging. */

import { createAssembler } from '../assembler.ts';
import { emitBoot } from '../boot/boot.ts';
import { interruptGate32, segmentDescriptor, systemDescriptor32, taskGate } from '../descriptors.ts';
import { writeElf32 } from '../elf.ts';
import type { ImageOptions, KernelImage } from '../image.ts';
import {
  LAPIC_PHYSICAL,
  LDT_ENTRIES,
  PAGE_SIZE,
  STACK_OFFSET,
  STACK_PAGES,
  selector,
  TRAMPOLINE,
  USER_AREA,
  USER_AREA_PAGES,
  USER_AREA_STRIDE,
  USER_LAPIC,
  vector,
} from '../layout.ts';
import { PageTables } from '../page-tables.ts';
import { Sections } from '../sections.ts';
import { emitSerial } from '../serial.ts';
import { Texts } from '../texts.ts';
import type { VariantName } from '../variants/index.ts';
import { emitCalls } from './calls.ts';
import { buildCases32 } from './cases.ts';
import { emitDoubleFault } from './double-fault.ts';
import { emitEntries } from './entry.ts';
import { espfix } from './espfix.ts';
import { emitHandlers } from './handlers.ts';
import {
  GDT_SIZE,
  KERNEL_BASE,
  LAPIC,
  percpu,
  percpuPage,
  selector32,
  stackNames,
  stackRegion,
  tss,
} from './layout.ts';
import { plain } from './plain.ts';
import { emitReporting } from './reporting.ts';
import { emitStart } from './start.ts';
import { emitUser } from './user.ts';
import type { Variant32 } from './variant.ts';

/** Returns to user mode of the 32-bit kernel, by variant. */
const variants32: Partial<Record<VariantName, Variant32>> = {
  'none-pae': plain,
  'espfix32-pae': espfix,
};

/** Physical memory that is mapped to itself while booting. */
const BOOT_MAP_SIZE = 64 << 20;
/** Page-table pages at most: two roots and their page directories, and a page table for each 2 MiB in use. */
const TABLE_PAGES = 64;

/** Builds the bootable image of a 32-bit variant; `options` have been checked. */
export function buildImage32(
  variantName: VariantName,
  { cpus, seed, only }: Required<Pick<ImageOptions, 'cpus' | 'seed' | 'only'>>,
): KernelImage {
  const variant = variants32[variantName];
  if (variant === undefined) throw new RangeError(`variant ${variantName} has no 32-bit kernel`);
  const cases = buildCases32(variantName).filter(only);
  const stacks = Array.from({ length: cpus }, (_, cpu) =>
    stackNames.map((name, index) => {
      const start = stackRegion(seed, cpu, index) + STACK_OFFSET;
      return { cpu, name, range: { start, end: start + BigInt(STACK_PAGES * PAGE_SIZE) } };
    }),
  );

  const a = createAssembler();
  const texts = new Texts(a, 32);
  emitBoot(a, 32);
  a.section('.rodata');
  a.align(16);
  a.label('idt').zero(256 * 8);
  emitStart(a, cpus);
  emitEntries(a, variant);
  emitHandlers(a, texts);
  emitDoubleFault(a);
  emitCalls(a, cpus);
  emitSerial(a, 32);
  emitReporting(a, variant, seed, texts);
  texts.emit();
  emitUser(a, cases);
  a.section('.data');
  a.align(PAGE_SIZE);
  a.label('percpu').zero(cpus * percpuPage.size);
  a.section('.bss');
  a.align(PAGE_SIZE);
  a.label('stacks').zero(cpus * stackNames.length * STACK_PAGES * PAGE_SIZE);
  a.label('user_areas').zero(cpus * (1 + USER_AREA_PAGES) * PAGE_SIZE);

  const sections = new Sections(a.sizes(), KERNEL_BASE, TABLE_PAGES);
  const tables = new PageTables(sections.tablesAt, 3);
  const bootRoot = tables.newTable();
  const root = tables.newTable();
  a.constant('boot_page_tables', bootRoot);
  a.constant('page_table_entries', TABLE_PAGES * (PAGE_SIZE / 8));
  a.constant('kernel_pdpt', root);
  a.constant('trampoline_image', KERNEL_BASE + sections.physical('.trampoline'));
  a.constant('trampoline_length', sections.size('.trampoline'));
  const linked = a.link(sections.place);
  const symbol = (name: string) => linked.symbols.get(name) as bigint;
  const physicalOf = (name: string) => symbol(name) - KERNEL_BASE;

  sections.map(tables, root);
  // CPU 0 copies the trampoline to where it runs.
  const trampolineAt = sections.physical('.trampoline');
  tables.map(root, KERNEL_BASE + trampolineAt, trampolineAt, sections.size('.trampoline'), {});
  tables.map(root, KERNEL_BASE + TRAMPOLINE, TRAMPOLINE, PAGE_SIZE, { write: true });
  tables.map(root, LAPIC, LAPIC_PHYSICAL, PAGE_SIZE, { write: true, cacheDisable: true });
  tables.map(root, USER_LAPIC, LAPIC_PHYSICAL, PAGE_SIZE, { write: true, cacheDisable: true, user: true });
  const stackBytes = STACK_PAGES * PAGE_SIZE;
  for (const [i, { range }] of stacks.flat().entries())
    tables.map(root, range.start, physicalOf('stacks') + BigInt(i * stackBytes), stackBytes, { write: true });
  const areaBytes = (1 + USER_AREA_PAGES) * PAGE_SIZE;
  for (let cpu = 0; cpu < cpus; cpu++) {
    const linear = USER_AREA + BigInt(cpu) * USER_AREA_STRIDE;
    const from = physicalOf('user_areas') + BigInt(cpu * areaBytes);
    tables.map(root, linear, from, PAGE_SIZE, { user: true });
    tables.map(root, linear + BigInt(PAGE_SIZE), from + BigInt(PAGE_SIZE), areaBytes - PAGE_SIZE, {
      write: true,
      user: true,
    });
  }
  // While booting, low memory is mapped to itself in place of user space; the last GiB is the kernel's.
  tables.mapLarge(bootRoot, 0n, 0n, BOOT_MAP_SIZE, { write: true, execute: true });
  tables.table(bootRoot)[3] = tables.table(root)[3];
  const bytesOf = (name: string) => linked.sections.get(name)?.bytes ?? new Uint8Array();
  fillIdt(
    bytesOf('.rodata'),
    Number(symbol('idt') - (sections.place.get('.rodata') as bigint)),
    linked.symbols,
  );
  const percpuAt = Number(symbol('percpu') - (sections.place.get('.data') as bigint));
  for (let cpu = 0; cpu < cpus; cpu++) {
    const page = bytesOf('.data').subarray(
      percpuAt + cpu * percpuPage.size,
      percpuAt + (cpu + 1) * percpuPage.size,
    );
    fillPercpu(page, {
      cpu,
      address: Number(symbol('percpu')) + cpu * percpuPage.size,
      stackTops: new Map(stacks[cpu].map(({ name, range }) => [name, Number(range.end)])),
      userArea: Number(USER_AREA + BigInt(cpu) * USER_AREA_STRIDE),
      userCounters: Number(symbol('user_areas')) + cpu * areaBytes,
      pageTables: Number(root),
      doubleFaultTask: Number(symbol('double_fault_task')),
    });
  }

  return {
    variant: variantName,
    elf: writeElf32(symbol('start'), sections.segments(linked, tables.bytes())),
    symbols: linked.symbols,
    cases,
    stacks: stacks.flat(),
    facts: undefined,
    ministacks: [],
    counters: Array.from({ length: cpus }, (_, cpu) => {
      const start = USER_AREA + BigInt(cpu) * USER_AREA_STRIDE;
      return { start, end: start + BigInt(PAGE_SIZE) };
    }),
  };
}

/**
 * Interrupt gates for all vectors but the double fault's, which is a task gate. CPL 3 may raise #BP, INT 0x80
 * and, in this test kernel, INT 18.
 */
function fillIdt(rodata: Uint8Array, offset: number, symbols: ReadonlyMap<string, bigint>): void {
  const view = new DataView(rodata.buffer, rodata.byteOffset + offset, 256 * 8);
  for (let v = 0; v < 256; v++) {
    const dpl = v === 3 || v === 18 || v === vector.syscall ? 3 : 0;
    const gate =
      v === 8
        ? taskGate(selector32.doubleFaultTask, 0)
        : interruptGate32(selector.kernelCode, Number(symbols.get(`vector.${v}`)), dpl);
    view.setBigUint64(8 * v, gate, true);
  }
}

interface PercpuContents {
  readonly cpu: number;
  readonly address: number;
  readonly stackTops: ReadonlyMap<string, number>;
  readonly userArea: number;
  readonly userCounters: number;
  readonly pageTables: number;
  readonly doubleFaultTask: number;
}

/** A CPU's area, GDT, two TSSs and empty LDT. */
function fillPercpu(page: Uint8Array, c: PercpuContents): void {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const top = (name: (typeof stackNames)[number]) => c.stackTops.get(name) as number;
  for (const [field, value] of [
    ['self', c.address],
    ['kernelStack', top('main')],
    ['mainStack', top('main')],
    ['childStack', top('child')],
    ['id', c.cpu],
    ['userArea', c.userArea],
    ['userCounters', c.userCounters],
  ] as const)
    view.setUint32(percpu[field], value, true);

  const flat = { limit: 0xfffff, pages: true } as const;
  const gdt = new Map<number, bigint>([
    [
      selector32.percpu,
      segmentDescriptor({ kind: 'data32', base: c.address, limit: percpuPage.size - 1, dpl: 0 }),
    ],
    [selector.kernelCode, segmentDescriptor({ kind: 'code32', ...flat, dpl: 0 })],
    [selector.kernelData, segmentDescriptor({ kind: 'data32', ...flat, dpl: 0 })],
    [selector.userCode32, segmentDescriptor({ kind: 'code32', ...flat, dpl: 3 })],
    [selector.userData, segmentDescriptor({ kind: 'data32', ...flat, dpl: 3 })],
    [selector.espfix, segmentDescriptor({ kind: 'data32', ...flat, dpl: 0 })],
    [selector.tss, systemDescriptor32('tss', c.address + percpuPage.tss, tss.size - 1)],
    [
      selector32.doubleFaultTask,
      systemDescriptor32('tss', c.address + percpuPage.doubleFaultTss, tss.size - 1),
    ],
    [selector.ldt, systemDescriptor32('ldt', c.address + percpuPage.ldt, LDT_ENTRIES * 8 - 1)],
  ]);
  for (const [where, descriptor] of gdt) {
    if ((where & ~7) + 8 > GDT_SIZE) throw new RangeError('the GDT is smaller than the layout says');
    view.setBigUint64(percpuPage.gdt + (where & ~7), descriptor, true);
  }

  // What a task switch loads but never saves must be there beforehand: CR3 and LDTR (SDM Vol. 3A, Section 7.2.1).
  const fillTss = (at: number, fields: Partial<Record<keyof typeof tss, number>>) => {
    for (const [field, value] of Object.entries(fields) as [keyof typeof tss, number][])
      view.setUint32(at + tss[field], value, true);
    view.setUint16(at + tss.ioMapBase, tss.size, true);
  };
  fillTss(percpuPage.tss, {
    esp0: top('main'),
    ss0: selector.kernelData,
    cr3: c.pageTables,
    ldt: selector.ldt,
  });
  fillTss(percpuPage.doubleFaultTss, {
    cr3: c.pageTables,
    eip: c.doubleFaultTask,
    eflags: 2,
    esp: top('double-fault'),
    cs: selector.kernelCode,
    ss: selector.kernelData,
    ds: selector.kernelData,
    es: selector.kernelData,
    fs: selector32.percpu,
  });
}
