/** Bootable images of the espfix kernel: Multiboot 1 and PVH, in one ELF32 file; this file writes those of 64-bit code. */

import { createAssembler } from './assembler.ts';
import { emitBoot } from './boot/boot.ts';
import { emitStart } from './boot/start.ts';
import { buildCases, type Fault } from './cases.ts';
import { interruptGate, segmentDescriptor, systemDescriptor, taskStateSegment } from './descriptors.ts';
import { writeElf32 } from './elf.ts';
import { emitCalls } from './entry/calls.ts';
import { emitEntries } from './entry/entry.ts';
import { emitHandlers } from './entry/handlers.ts';
import { type KernelFacts, kernelFacts } from './facts.ts';
import { buildImage32 } from './i386/image.ts';
import {
  ESPFIX_STACK_SIZE,
  GDT_SIZE,
  ist,
  KERNEL_BASE,
  LAPIC,
  LAPIC_PHYSICAL,
  LDT_ENTRIES,
  PAGE_SIZE,
  PHYSICAL_MAP,
  PHYSICAL_MAP_SIZE,
  percpu,
  percpuPage,
  STACK_PAGES,
  selector,
  stackNames,
  tss,
  USER_AREA,
  USER_AREA_PAGES,
  USER_AREA_STRIDE,
  USER_LAPIC,
  vector,
} from './layout.ts';
import { MAX_IMAGE_CPUS, MAX_IMAGE_SEED } from './limits.ts';
import { PageTables } from './page-tables.ts';
import type { CodeSegmentKind, ReturnPath, StackSegmentKind } from './report.ts';
import { emitReporting } from './reporting.ts';
import { Sections } from './sections.ts';
import { type SelfNmi, sendNmi } from './self-nmi.ts';
import { emitSerial } from './serial.ts';
import { stackRange } from './stacks.ts';
import { Texts } from './texts.ts';
import { emitUser } from './user.ts';
import { espfix32 } from './variants/espfix32.ts';
import { gallery } from './variants/gallery/index.ts';
import type { GalleryName, ImageName } from './variants/gallery/names.ts';
import { type VariantName, variantInfo } from './variants/index.ts';
import { linux } from './variants/linux.ts';
import { none } from './variants/none.ts';
import { prototype } from './variants/prototype.ts';
import type { Tasks, Variant } from './variants/variant.ts';

/** One case of the built-in table, as the filter sees it. */
export interface CaseInfo {
  readonly path: ReturnPath;
  readonly cs: CodeSegmentKind;
  readonly ss: StackSegmentKind;
  /** ESP that user space has before the event, 32 bits. */
  readonly set: number;
  /** A question's name, or `-`. */
  readonly name: string;
  /** The fault that the return must raise and user space be told of. */
  readonly expected: Fault | undefined;
}

/** A place in a ministack page: the first, the last, or one by its number from 0. */
export type Slot = 'first' | 'last' | number;

export interface ImageOptions {
  /** Most CPUs that the image will start, 1 to 64; the ones that answer at boot are used. Default 8. */
  readonly cpus?: number;
  /** Moves kernel stacks, and ministacks where the variant randomizes them; 0 to 2^31-1. Default 1. */
  readonly seed?: number;
  /** Keeps only the cases for which it answers true. */
  readonly only?: (c: CaseInfo) => boolean;
  /** Where CPU 0's ministack lies in its page; those of other CPUs follow. By default the variant decides. */
  readonly slot?: Slot;
  /** Adds the cases that these gallery kernels bring along for its fault to show. */
  readonly casesOf?: GalleryName | readonly GalleryName[];
  /** What tasks do before their cases. By default the variant decides. Of 64-bit kernels. */
  readonly tasks?: Tasks;
  /** NMIs that the kernel sends CPU 0, each at a label of its own. Of 64-bit kernels. */
  readonly selfNmis?: readonly SelfNmi[];
}

/** A range of linear addresses, end excluded. */
export interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

export interface KernelImage {
  readonly variant: ImageName;
  /** The ELF32 file. */
  readonly elf: Uint8Array;
  /**
   * Linear addresses of labels: `return_to_user` to `return_to_user_end`, every `iretq.*` and `sysretq.user`
   * (`iretd.*` and `sysexit.user` of the 32-bit kernel), the entries `vector.<n>` and `syscall_entry`
   * (`sysenter_entry`), and the user targets `target.<bits>.<event>`.
   */
  readonly symbols: ReadonlyMap<string, bigint>;
  /** The cases that the image will run on each CPU, in order. */
  readonly cases: readonly CaseInfo[];
  /** Kernel stacks by CPU: task stacks and IST stacks, for checks of stack discipline. */
  readonly stacks: readonly { readonly cpu: number; readonly name: string; readonly range: Range }[];
  /** Lowest alias (address bits 31:16 zero) of each CPU's 64-byte ministack; empty without espfix64. */
  readonly ministacks: readonly bigint[];
  /** Pages that the kernel writes for user space to read: event counts. They change with injected events. */
  readonly counters: readonly Range[];
  /** What the kernel knows of itself; undefined for 32-bit kernels. */
  readonly facts: KernelFacts | undefined;
}

/** Returns to user mode of the 64-bit kernel, by variant. */
const variants64: Partial<Record<VariantName, Variant>> = { none, prototype, linux, espfix32 };

/** The code of a 64-bit kernel, and the variant whose cases and expectations it shares. */
function kernel64(name: ImageName): { variant: Variant; like: VariantName } | undefined {
  const entry = gallery.find((e) => e.name === name);
  if (entry !== undefined) return { variant: entry.variant, like: 'linux' };
  const like = variantInfo(name).name;
  const variant = variants64[like];
  return variant && { variant, like };
}

/** Builds the bootable image of a variant or of a gallery kernel. Raises a RangeError for options out of range. */
export function buildImage(name: ImageName, options: ImageOptions = {}): KernelImage {
  const { cpus = 8, seed = 1, only = () => true } = options;
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_IMAGE_CPUS)
    throw new RangeError(`cpus must be 1 to ${MAX_IMAGE_CPUS}, not ${cpus}`);
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_IMAGE_SEED)
    throw new RangeError(`seed must be 0 to ${MAX_IMAGE_SEED}, not ${seed}`);
  const found = kernel64(name);
  if (found === undefined) return buildImage32(variantInfo(name).name, { cpus, seed, only });
  const { variant, like } = found;
  const tasks = { ...variant.tasks, ...options.tasks };
  const { sharedLdt = false } = tasks;
  const build = { cpus, seed, slot: slotNumber(options.slot, variant) };
  const ministacks = Array.from({ length: variant.ministack ? cpus : 0 }, (_, cpu) =>
    (variant.ministack as NonNullable<Variant['ministack']>)(cpu, build),
  );
  const extra = [name, ...[options.casesOf ?? []].flat()].map(
    (n) => gallery.find((e) => e.name === n)?.variant,
  );
  const cases = [
    ...buildCases(like),
    ...[...new Set(extra)].flatMap((v) => v?.extraCases?.(build) ?? []),
  ].filter(only);
  const stacks = Array.from({ length: cpus }, (_, cpu) =>
    stackNames.map((name) => ({ cpu, name, range: stackRange(seed, cpu, name) })),
  );

  const a = createAssembler();
  for (const nmi of options.selfNmis ?? []) sendNmi(a, nmi);
  const texts = new Texts(a, 64);
  emitBoot(a, 64);
  a.section('.rodata');
  a.align(16);
  a.label('idt').zero(256 * 16);
  emitStart(a, variant, { ...build, ministacks });
  emitEntries(a, variant);
  emitHandlers(a, variant, texts);
  emitCalls(a, variant, { cpus, sharedLdt });
  emitSerial(a, 64);
  emitReporting(a, variant, { cpus, seed }, texts);
  texts.emit();
  a.section('.text').bits(64);
  variant.emitFunctions?.(a, { ...build, ministacks });
  emitUser(a, cases, { ...tasks, tls: (variant.tlsSlots ?? 0) > 0 });
  a.section('.data');
  a.align(PAGE_SIZE);
  a.label('percpu').zero(cpus * percpuPage.size);
  a.section('.bss');
  a.align(PAGE_SIZE);
  a.label('stacks').zero(cpus * stackNames.length * STACK_PAGES * PAGE_SIZE);
  a.label('user_areas').zero(cpus * (1 + USER_AREA_PAGES) * PAGE_SIZE);

  // Tables for what is mapped below, with room to spare.
  const sections = new Sections(a.sizes(), KERNEL_BASE, 64 + 8 * cpus);
  const tables = new PageTables(sections.tablesAt);
  const bootRoot = tables.newTable();
  const root = tables.newTable();

  a.constant('boot_page_tables', bootRoot);
  a.constant('kernel_pml4', root);
  a.constant('trampoline_image', KERNEL_BASE + sections.physical('.trampoline'));
  a.constant('trampoline_length', sections.size('.trampoline'));
  const linked = a.link(sections.place);
  for (const { at } of options.selfNmis ?? [])
    if (!linked.symbols.has(at)) throw new RangeError(`selfNmis: ${name} has no ${at}`);
  const symbol = (name: string) => linked.symbols.get(name) as bigint;
  const physicalOf = (name: string) => symbol(name) - KERNEL_BASE;

  sections.map(tables, root);
  // CPU 0 copies the trampoline to where it runs.
  const trampolineAt = sections.physical('.trampoline');
  tables.map(root, KERNEL_BASE + trampolineAt, trampolineAt, sections.size('.trampoline'), {});
  tables.mapLarge(root, PHYSICAL_MAP, 0n, PHYSICAL_MAP_SIZE, { write: true });
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
  // While booting, low memory is mapped to itself in place of user space.
  tables.mapLarge(bootRoot, 0n, 0n, PHYSICAL_MAP_SIZE, { write: true, execute: true });
  tables.table(bootRoot).set(tables.table(root).subarray(256), 256);
  const interruptStacks = { ...commonInterruptStacks, ...variant.interruptStacks };
  const bytesOf = (name: string) => linked.sections.get(name)?.bytes ?? new Uint8Array();
  fillIdt(
    bytesOf('.rodata'),
    Number(symbol('idt') - (sections.place.get('.rodata') as bigint)),
    linked.symbols,
    interruptStacks,
  );
  const percpuOf = (cpu: number) => symbol('percpu') + BigInt(cpu * percpuPage.size);
  const percpuAt = Number(symbol('percpu') - (sections.place.get('.data') as bigint));
  for (let cpu = 0; cpu < cpus; cpu++) {
    const page = bytesOf('.data').subarray(
      percpuAt + cpu * percpuPage.size,
      percpuAt + (cpu + 1) * percpuPage.size,
    );
    fillPercpu(page, {
      cpu,
      address: percpuOf(cpu),
      ldt: percpuOf(sharedLdt ? 0 : cpu) + BigInt(percpuPage.ldt),
      stackTops: new Map(stacks[cpu].map(({ name, range }) => [name, range.end])),
      userArea: USER_AREA + BigInt(cpu) * USER_AREA_STRIDE,
      userCounters: symbol('user_areas') + BigInt(cpu * areaBytes),
    });
  }

  return {
    variant: name,
    elf: writeElf32(symbol('start'), sections.segments(linked, tables.bytes())),
    symbols: linked.symbols,
    cases,
    stacks: stacks.flat(),
    ministacks,
    counters: Array.from({ length: cpus }, (_, cpu) => {
      const start = USER_AREA + BigInt(cpu) * USER_AREA_STRIDE;
      return { start, end: start + BigInt(PAGE_SIZE) };
    }),
    facts: kernelFacts({
      variant,
      stacks,
      interruptStacks,
      ministacks,
      percpu: percpuOf,
      symbols: linked.symbols,
    }),
  };
}

/** The number of a slot among the ministacks of a page. Raises a RangeError if there is no such. */
function slotNumber(slot: Slot | undefined, variant: Variant): number | undefined {
  const slots = Math.floor(PAGE_SIZE / (variant.ministackSize ?? ESPFIX_STACK_SIZE));
  const number = slot === 'first' ? 0 : slot === 'last' ? slots - 1 : slot;
  if (number !== undefined && (!Number.isInteger(number) || number < 0 || number >= slots))
    throw new RangeError(`slot must be first, last, or 0 to ${slots - 1}, not ${number}`);
  return number;
}

/** Interrupt stack table entries by vector. */
const commonInterruptStacks: Readonly<Record<number, number>> = {
  1: ist.debug,
  2: ist.nmi,
  8: ist.doubleFault,
  18: ist.machineCheck,
  [vector.machineCheckStandIn]: ist.standIn,
};

/** Interrupt gates for all vectors: CPL 3 may raise #BP, INT 0x80 and the machine-check stand-in. */
function fillIdt(
  rodata: Uint8Array,
  offset: number,
  symbols: ReadonlyMap<string, bigint>,
  stacks: Readonly<Record<number, number>>,
): void {
  const view = new DataView(rodata.buffer, rodata.byteOffset + offset, 256 * 16);
  for (let v = 0; v < 256; v++) {
    const dpl = v === 3 || v === vector.machineCheckStandIn || v === vector.syscall ? 3 : 0;
    const address = symbols.get(`vector.${v}`) as bigint;
    const [low, high] = interruptGate(selector.kernelCode, address, dpl, stacks[v] ?? 0);
    view.setBigUint64(16 * v, low, true);
    view.setBigUint64(16 * v + 8, high, true);
  }
}

interface PercpuContents {
  readonly cpu: number;
  readonly address: bigint;
  readonly ldt: bigint;
  readonly stackTops: ReadonlyMap<string, bigint>;
  readonly userArea: bigint;
  readonly userCounters: bigint;
}

/** A CPU's area, GDT, TSS and empty LDT. */
function fillPercpu(page: Uint8Array, c: PercpuContents): void {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const top = (name: (typeof stackNames)[number]) => c.stackTops.get(name) as bigint;
  view.setBigUint64(percpu.self, c.address, true);
  view.setBigUint64(percpu.kernelStack, top('main'), true);
  view.setBigUint64(percpu.mainStack, top('main'), true);
  view.setBigUint64(percpu.childStack, top('child'), true);
  view.setBigUint64(percpu.nmiStack, top('nmi'), true);
  view.setBigUint64(percpu.machineCheckStack, top('machine-check'), true);
  view.setBigUint64(percpu.id, BigInt(c.cpu), true);
  // A kernel that takes it for a small number is found out before long.
  view.setBigUint64(percpu.machineChecks, 0xffff_ffffn, true);
  view.setBigUint64(percpu.userArea, c.userArea, true);
  view.setBigUint64(percpu.userCounters, c.userCounters, true);

  const flat = { limit: 0xfffff, pages: true } as const;
  const gdt: bigint[] = [
    0n,
    segmentDescriptor({ kind: 'code32', ...flat, dpl: 0 }),
    segmentDescriptor({ kind: 'code64', limit: 0, dpl: 0 }),
    segmentDescriptor({ kind: 'data32', ...flat, dpl: 0 }),
    segmentDescriptor({ kind: 'code32', ...flat, dpl: 3 }),
    segmentDescriptor({ kind: 'data32', ...flat, dpl: 3 }),
    segmentDescriptor({ kind: 'code64', limit: 0, dpl: 3 }),
    segmentDescriptor({ kind: 'data32', ...flat, dpl: 0 }),
    ...systemDescriptor('tss', c.address + BigInt(percpuPage.tss), tss.size - 1),
    ...systemDescriptor('ldt', c.ldt, LDT_ENTRIES * 8 - 1),
  ];
  if (gdt.length * 8 !== GDT_SIZE)
    throw new RangeError('the GDT does not have the size that the layout says');
  for (const [i, entry] of gdt.entries()) view.setBigUint64(percpuPage.gdt + 8 * i, entry, true);
  const istStacks: bigint[] = [];
  istStacks[ist.doubleFault - 1] = top('double-fault');
  istStacks[ist.nmi - 1] = top('nmi');
  istStacks[ist.debug - 1] = top('debug');
  istStacks[ist.machineCheck - 1] = top('machine-check');
  istStacks[ist.standIn - 1] = top('stand-in');
  page.set(taskStateSegment(top('main'), istStacks), percpuPage.tss);
}
