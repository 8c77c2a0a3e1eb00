/**
 * Mutants of what the processor reads by itself: interrupt gates, segment descriptors, the task-state segment and page-table
 * entries, and of the addresses in the per-CPU area that entry code takes its stacks from.
 *
 * SDM vol. 3A 6.14.1 (gates), 3.4.5 (segment descriptors), 7.2.3 and 7.7 (TSS), 4.5.4 (page tables).
 */
import type { KernelImage } from '../../kernel/image.ts';
import {
  ESPFIX_PGD_SLOT,
  KERNEL_BASE,
  LAPIC,
  PHYSICAL_MAP,
  percpu,
  percpuPage,
  selector,
  tss,
} from '../../kernel/layout.ts';
import { pte } from '../../kernel/page-tables.ts';
import type { Mutant, MutantGroup, ReadPhysical } from './mutant.ts';

const ADDRESS = 0x000f_ffff_ffff_f000n;
const PAGE = 4096n;

const read64 = (read: ReadPhysical, at: number) => new DataView(read(at, 8).buffer).getBigUint64(0, true);

function quadword(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

interface Word {
  readonly group: MutantGroup;
  readonly name: string;
  readonly at: number;
  readonly late?: boolean;
}

/** Mutants of a quadword: what each is called, and the value instead. */
function mutantsOf(
  read: ReadPhysical,
  { group, name, at, late = false }: Word,
  changes: readonly (readonly [what: string, change: (value: bigint) => bigint])[],
): Mutant[] {
  const value = read64(read, at);
  return changes.flatMap(([what, change]) => {
    const changed = BigInt.asUintN(64, change(value));
    if (changed === value) return [];
    return [
      {
        key: `${name}: ${what}`,
        group,
        text: `${hex(value)} -> ${hex(changed)}`,
        address: at,
        bytes: quadword(changed),
        late,
      },
    ];
  });
}

/** Bits `low` and up, as many as in `mask`, set to `to`. */
const field = (low: number, mask: bigint, to: bigint) => (value: bigint) =>
  (value & ~(mask << BigInt(low))) | (to << BigInt(low));
const flip = (bits: bigint) => (value: bigint) => value ^ bits;

/** Gates of these vectors. */
export function gateMutants(
  { symbols }: KernelImage,
  read: ReadPhysical,
  vectors: readonly number[],
): Mutant[] {
  const idt = Number((symbols.get('idt') as bigint) - KERNEL_BASE);
  return vectors.flatMap((vector) => {
    const low = { group: 'idt', name: `gate of vector ${vector}`, at: idt + 16 * vector } as const;
    const value = read64(read, low.at);
    const ist = (value >> 32n) & 7n;
    const dpl = (value >> 45n) & 3n;
    return [
      ...mutantsOf(read, low, [
        ['no IST', field(32, 7n, 0n)],
        ['next IST', field(32, 7n, (ist % 5n) + 1n)],
        ['empty IST', field(32, 7n, 7n)],
        [`DPL ${3n - dpl}`, field(45, 3n, 3n - dpl)],
        ['not present', flip(1n << 47n)],
        ['trap gate', field(40, 15n, 15n)],
        ['call gate', field(40, 15n, 12n)],
        ['reserved type', field(40, 15n, 8n)],
        ['user code segment', field(16, 0xffffn, BigInt(selector.userCode64))],
        ['data segment', field(16, 0xffffn, BigInt(selector.kernelData))],
        ['32-bit code segment', field(16, 0xffffn, 8n)],
        ['null segment', field(16, 0xffffn, 0n)],
        ['one byte further', (v) => v + 1n],
      ]),
      ...mutantsOf(read, { ...low, name: `${low.name}, upper half`, at: low.at + 8 }, [
        ['another address', flip(1n)],
        ['reserved bits', flip(1n << 40n)],
      ]),
    ];
  });
}

const segments = [
  ['null', 0],
  ['32-bit kernel code', 8],
  ['kernel code', selector.kernelCode],
  ['kernel data', selector.kernelData],
  ['32-bit user code', selector.userCode32],
  ['user data', selector.userData],
  ['64-bit user code', selector.userCode64],
  ['segment-base stack', selector.espfix],
] as const;

/** Descriptors of CPU 0's GDT. */
export function descriptorMutants({ symbols }: KernelImage, read: ReadPhysical): Mutant[] {
  const gdt = Number((symbols.get('percpu') as bigint) - KERNEL_BASE) + percpuPage.gdt;
  const mutants = segments.flatMap(([name, index]) =>
    mutantsOf(read, { group: 'gdt', name: `descriptor of ${name}`, at: gdt + (index & ~7) }, [
      ['not present', flip(1n << 47n)],
      ['other DPL', flip(3n << 45n)],
      ['system', flip(1n << 44n)],
      ['code or data', flip(1n << 43n)],
      ['conforming or expand-down', flip(1n << 42n)],
      ['readable or writable', flip(1n << 41n)],
      ['accessed', flip(1n << 40n)],
      ['L', flip(1n << 53n)],
      ['D/B', flip(1n << 54n)],
      ['G', flip(1n << 55n)],
      ['base', flip(1n << 28n)],
      ['limit', flip(0xffffn)],
    ]),
  );
  for (const [name, index] of [
    ['TSS', selector.tss],
    ['LDT', selector.ldt],
  ] as const) {
    const low = { group: 'gdt', name: `descriptor of ${name}`, at: gdt + index } as const;
    mutants.push(
      ...mutantsOf(read, low, [
        ['not present', flip(1n << 47n)],
        ['other DPL', flip(3n << 45n)],
        ['other type', flip(1n << 40n)],
        ['base', flip(1n << 16n)],
        ['base by 64 KiB', flip(1n << 32n)],
        ['limit halved', (v) => (v & ~0xffffn) | ((v & 0xffffn) >> 1n)],
        ['limit +1', (v) => v + 1n],
      ]),
      ...mutantsOf(read, { ...low, name: `${low.name}, upper half`, at: low.at + 8 }, [['base', flip(1n)]]),
    );
  }
  return mutants;
}

/** CPU 0's TSS. */
export function taskStateMutants({ symbols }: KernelImage, read: ReadPhysical): Mutant[] {
  const at = Number((symbols.get('percpu') as bigint) - KERNEL_BASE) + percpuPage.tss;
  const changes = [
    ['null', () => 0n],
    ['16 bytes up', (v: bigint) => v + 16n],
    ['16 bytes down', (v: bigint) => v - 16n],
    ['8 bytes up', (v: bigint) => v + 8n],
    ['a page down', (v: bigint) => v - PAGE],
    ['the bottom', (v: bigint) => v - 2n * PAGE],
    ['another stack', (v: bigint) => v + 0x1_0000n],
    ['not canonical', flip(1n << 60n)],
  ] as const;
  const names = ['double faults', 'NMI', 'debug', 'machine checks', 'the stand-in'];
  return [
    ...mutantsOf(read, { group: 'tss', name: 'RSP0', at: at + tss.rsp0 }, changes),
    ...names.flatMap((name, i) =>
      mutantsOf(read, { group: 'tss', name: `IST of ${name}`, at: at + tss.ist1 + 8 * i }, changes),
    ),
    ...mutantsOf(read, { group: 'tss', name: 'RSP1', at: at + tss.rsp0 + 8 }, [['something', () => 0x10n]]),
  ];
}

/** Stacks and addresses in CPU 0's area. */
export function areaMutants({ symbols }: KernelImage, read: ReadPhysical): Mutant[] {
  const at = Number((symbols.get('percpu') as bigint) - KERNEL_BASE);
  const stacks = ['kernelStack', 'mainStack', 'childStack', 'nmiStack', 'machineCheckStack'] as const;
  const changes = [
    ['null', () => 0n],
    ['16 bytes down', (v: bigint) => v - 16n],
    ['a page down', (v: bigint) => v - PAGE],
    ['another stack', (v: bigint) => v + 0x1_0000n],
  ] as const;
  const word = (name: keyof typeof percpu, late = false): Word => ({
    group: 'percpu',
    name: `percpu.${name}`,
    at: at + percpu[name],
    late,
  });
  return [
    ...stacks.flatMap((name) => mutantsOf(read, word(name), changes)),
    ...mutantsOf(read, word('espfixStack', true), [
      ['null', () => 0n],
      ['the next slot', (v) => v ^ 64n],
      ['8 bytes up', (v) => v + 8n],
      ['another page', (v) => v ^ PAGE],
      ['bit 16', (v) => v | 0x1_0000n],
      ['bit 31', (v) => v | 0x8000_0000n],
    ]),
    ...mutantsOf(read, word('espfixWrite', true), [
      ['null', () => 0n],
      ['the next slot', (v) => v ^ 64n],
      ['8 bytes up', (v) => v + 8n],
      ['another page', (v) => v ^ PAGE],
    ]),
  ];
}

const entryBits = [
  ['P', flip(pte.present)],
  ['R/W', flip(pte.write)],
  ['U/S', flip(pte.user)],
  ['NX', flip(pte.noExecute)],
  ['reserved bit', flip(1n << 51n)],
] as const;
const leafBits = [
  ...entryBits,
  ['next frame', (v: bigint) => v + PAGE],
  ['frame before', (v: bigint) => v - PAGE],
] as const;
const tableBits = [...entryBits, ['PS', flip(pte.large)], ['next table', (v: bigint) => v + PAGE]] as const;

const levels = ['PT', 'PD', 'PDPT', 'PML4'] as const;

/** The entries that map an address: physical address of each, from the page up. */
function walk(read: ReadPhysical, root: bigint, linear: bigint): { at: number; level: number }[] {
  const found: { at: number; level: number }[] = [];
  let table = root;
  for (let level = 3; level >= 0; level--) {
    const at = Number(table) + 8 * Number((linear >> BigInt(12 + 9 * level)) & 0x1ffn);
    const entry = read64(read, at);
    if ((entry & pte.present) === 0n) break;
    found.unshift({ at, level });
    if (level > 0 && (entry & pte.large) !== 0n) break;
    table = entry & ADDRESS;
  }
  return found;
}

/** A page whose mapping is mutated. */
export interface MappedPage {
  readonly name: string;
  readonly linear: bigint;
  readonly late?: boolean;
}

/** The pages that entry code, its data and its stacks are on, and those of ministacks at some aliases. */
export function entryPages(kernel: KernelImage, aliases: readonly bigint[]): MappedPage[] {
  const symbol = (name: string) => kernel.symbols.get(name) as bigint;
  const pages: MappedPage[] = [];
  const add = (name: string, linear: bigint, late = false) =>
    pages.push({ name, linear: linear & ~0xfffn, late });
  const from = symbol('vector.0') & ~0xfffn;
  for (let page = from; page < symbol('call.modifyLdt'); page += PAGE)
    add(`.text page ${(page - from) / PAGE}`, page);
  add('IDT', symbol('idt'));
  add('handlers', symbol('handlers'));
  add('percpu', symbol('percpu'));
  for (const { name, range } of kernel.stacks.filter(({ cpu }) => cpu === 0)) {
    add(`${name} stack, upper page`, range.end - PAGE);
    add(`${name} stack, lower page`, range.start);
  }
  add('local APIC', LAPIC);
  const ministack = kernel.facts?.cpus[0].ministack;
  if (ministack) {
    add('physical map of the ministack', PHYSICAL_MAP + ministack.physical);
    for (const alias of aliases)
      add(`ministack at alias 0x${alias.toString(16)}`, ministack.address | (alias << 16n), true);
  }
  return pages;
}

/** Page-table entries of these pages: each entry once, named by the first page that it maps. */
export function pageMutants(kernel: KernelImage, read: ReadPhysical, pages: readonly MappedPage[]): Mutant[] {
  const root = kernel.symbols.get('kernel_pml4') as bigint;
  const known = new Set<number>();
  return pages.flatMap(({ name, linear, late = false }) =>
    walk(read, root, linear).flatMap(({ at, level }) => {
      if (known.has(at)) return [];
      known.add(at);
      const large = level > 0 && (read64(read, at) & pte.large) !== 0n;
      const slot = Number((linear >> 39n) & 0x1ffn);
      const where = late && slot === ESPFIX_PGD_SLOT ? 'espfix ' : '';
      return mutantsOf(
        read,
        { group: 'pages', name: `${where}${levels[level]} entry of ${name}`, at, late },
        level === 0 || large ? leafBits : tableBits,
      );
    }),
  );
}
