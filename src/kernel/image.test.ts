/** Images of the 64-bit kernel: the file, its page tables and tables, and what it reports when booted. */
import { describe, expect, it } from 'vitest';
import { record } from './case-table.ts';
import { buildCases } from './cases.ts';
import { buildImage, type KernelImage } from './image.ts';
import {
  ESPFIX_BASE,
  KERNEL_BASE,
  LOAD_ADDRESS,
  PHYSICAL_MAP,
  percpu,
  percpuPage,
  selector,
  TRAMPOLINE,
  USER_AREA,
  USER_LAPIC,
  USER_RODATA,
  USER_TEXT,
} from './layout.ts';
import { returnPaths } from './report.ts';
import { variants } from './variants/index.ts';

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly flags: number;
  readonly align: number;
}

/** An image as a boot loader sees it: headers, and memory after loading. */
function load(image: KernelImage) {
  const { elf } = image;
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const headers: ProgramHeader[] = Array.from({ length: view.getUint16(44, true) }, (_, i) => {
    const at = view.getUint32(28, true) + i * view.getUint16(42, true);
    const field = (n: number) => view.getUint32(at + 4 * n, true);
    return {
      type: field(0),
      offset: field(1),
      address: field(3),
      fileSize: field(4),
      memorySize: field(5),
      flags: field(6),
      align: field(7),
    };
  });
  const memory = new DataView(new ArrayBuffer(16 << 20));
  for (const h of headers.filter((header) => header.type === 1))
    new Uint8Array(memory.buffer).set(elf.subarray(h.offset, h.offset + h.fileSize), h.address);
  return { elf, view, headers, memory, entry: view.getUint32(24, true) };
}

const image = buildImage('linux', { cpus: 3, seed: 7 });
const loaded = load(image);
const symbol = (name: string) => {
  const value = image.symbols.get(name);
  if (value === undefined) throw new Error(`no symbol ${name}`);
  return value;
};

/** Walks four-level page tables (SDM Vol. 3A, Section 4.5). */
function translate(root: bigint, linear: bigint) {
  let table = root;
  let write = true;
  let user = true;
  let execute = true;
  for (let level = 4; ; level--) {
    const index = (linear >> BigInt(12 + 9 * (level - 1))) & 0x1ffn;
    const entry = loaded.memory.getBigUint64(Number(table + 8n * index), true);
    if ((entry & 1n) === 0n) return undefined;
    write &&= (entry & 2n) !== 0n;
    user &&= (entry & 4n) !== 0n;
    execute &&= entry >> 63n === 0n;
    table = entry & 0x000f_ffff_ffff_f000n;
    if (level === 1 || (entry & 0x80n) !== 0n) {
      const offset = linear & ((1n << BigInt(12 + 9 * (level - 1))) - 1n);
      return {
        physical: table + offset,
        permissions: `${user ? 'u' : '-'}${write ? 'w' : '-'}${execute ? 'x' : '-'}`,
      };
    }
  }
}

describe('the ELF file', () => {
  it('is an ELF32 executable for EM_386 with its entry in a loaded, executable segment', () => {
    expect(Array.from(loaded.elf.subarray(0, 7))).toEqual([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
    expect(loaded.view.getUint16(16, true)).toBe(2);
    expect(loaded.view.getUint16(18, true)).toBe(3);
    const home = loaded.headers.find(
      (h) => h.type === 1 && h.address <= loaded.entry && loaded.entry < h.address + h.fileSize,
    );
    expect((home?.flags ?? 0) & 1).toBe(1);
  });

  it('has segments in order from 1 MiB that do not overlap and agree with the file modulo the page', () => {
    const segments = loaded.headers.filter((h) => h.type === 1);
    let end = Number(LOAD_ADDRESS);
    for (const h of segments) {
      expect(h.address).toBeGreaterThanOrEqual(end);
      expect(h.memorySize).toBeGreaterThanOrEqual(h.fileSize);
      expect(h.offset + h.fileSize).toBeLessThanOrEqual(loaded.elf.length);
      expect((h.address - h.offset) % h.align).toBe(0);
      end = h.address + h.memorySize;
    }
    expect(end).toBeLessThan(16 << 20);
  });

  it('has a Multiboot 1 header in the first 8 KiB, on 4 bytes, with its checksum', () => {
    const at = Array.from({ length: 2048 }, (_, i) => 4 * i).filter(
      (offset) => loaded.view.getUint32(offset, true) === 0x1badb002,
    );
    expect(at).toHaveLength(1);
    const sum = [0, 4, 8].reduce((total, i) => total + loaded.view.getUint32(at[0] + i, true), 0);
    expect(sum >>> 0).toBe(0);
  });

  it('has a PVH note that names the entry', () => {
    const note = loaded.headers.find((h) => h.type === 4);
    const at = note?.offset ?? 0;
    expect([0, 4, 8].map((i) => loaded.view.getUint32(at + i, true))).toEqual([4, 4, 18]);
    expect(new TextDecoder().decode(loaded.elf.subarray(at + 12, at + 16))).toBe('Xen\0');
    expect(loaded.view.getUint32(at + 16, true)).toBe(loaded.entry);
  });
});

describe('the page tables', () => {
  const root = symbol('kernel_pml4');
  const mappings: [string, bigint, string][] = [
    ['kernel code', symbol('return_to_user'), '--x'],
    ['kernel constants', symbol('handlers'), '---'],
    ['kernel data', symbol('percpu'), '-w-'],
    ['the trampoline image', symbol('trampoline_image'), '---'],
    ['the physical map', PHYSICAL_MAP + LOAD_ADDRESS, '-w-'],
    ['user code', USER_TEXT, 'u-x'],
    ['user constants', USER_RODATA, 'u--'],
    ['the counters that user space reads', USER_AREA, 'u--'],
    ["the user task's data", USER_AREA + 0x1000n, 'uw-'],
    ['the local APIC in user space', USER_LAPIC, 'uw-'],
  ];
  it.each(mappings)('map %s', (_, linear, permissions) => {
    expect(translate(root, linear)?.permissions).toBe(permissions);
  });

  it('map each kernel stack on its own, between pages that are not mapped', () => {
    const pages = new Set<bigint>();
    for (const { range } of image.stacks) {
      for (let at = range.start; at < range.end; at += 4096n) {
        const page = translate(root, at);
        expect(page?.permissions).toBe('-w-');
        pages.add(page?.physical ?? 0n);
      }
      expect(translate(root, range.start - 1n)).toBeUndefined();
      expect(translate(root, range.end)).toBeUndefined();
    }
    expect(pages.size).toBe(3 * 7 * 2);
  });

  it('leave the espfix slot to the kernel, which fills it as it runs', () => {
    expect(translate(root, ESPFIX_BASE)).toBeUndefined();
  });

  it('map low memory to itself only while booting', () => {
    const boot = symbol('boot_page_tables');
    expect(translate(boot, TRAMPOLINE)).toEqual({ physical: TRAMPOLINE, permissions: '-wx' });
    expect(translate(boot, symbol('start64'))).toEqual(translate(root, symbol('start64')));
    expect(translate(root, TRAMPOLINE)).toBeUndefined();
  });

  it('never let a page be both written and executed', () => {
    for (const name of ['percpu', 'stacks', 'user_areas', 'cpus_online'])
      expect(translate(root, symbol(name))?.permissions).not.toContain('x');
  });
});

describe('tables of each CPU', () => {
  it.each([0, 1, 2])('CPU %i has its stacks, GDT, TSS and LDT', (cpu) => {
    const at = Number(symbol('percpu') - KERNEL_BASE) + cpu * percpuPage.size;
    const read = (offset: number) => loaded.memory.getBigUint64(at + offset, true);
    const top = (name: string) => image.stacks.find((s) => s.cpu === cpu && s.name === name)?.range.end;
    expect(read(percpu.self)).toBe(symbol('percpu') + BigInt(cpu * percpuPage.size));
    expect(read(percpu.id)).toBe(BigInt(cpu));
    expect(read(percpu.kernelStack)).toBe(top('main'));
    expect(read(percpuPage.tss + 4)).toBe(top('main'));
    expect([0, 1, 2, 3, 4].map((i) => read(percpuPage.tss + 36 + 8 * i))).toEqual(
      ['double-fault', 'nmi', 'debug', 'machine-check', 'stand-in'].map(top),
    );
    // 64-bit code has L and not D (SDM Vol. 3A, Section 3.4.5); SYSRET finds CS 16 above and SS 8 above STAR.
    expect((read(percpuPage.gdt + (selector.userCode64 & ~7)) >> 53n) & 3n).toBe(1n);
    expect(selector.userCode64).toBe(selector.userCode32 + 16);
    expect(selector.userData).toBe(selector.userCode32 + 8);
    expect(selector.kernelData).toBe(selector.kernelCode + 8);
  });

  it('gives INT 0x80, #BP and the machine-check stand-in to CPL 3, and stacks to NMI, #DB, #DF and #MC', () => {
    const idt = Number(symbol('idt') - KERNEL_BASE);
    const gates = Array.from({ length: 256 }, (_, v) => loaded.memory.getBigUint64(idt + 16 * v, true));
    const dpl3 = gates.flatMap((gate, v) => (((gate >> 45n) & 3n) === 3n ? [v] : []));
    const stacks = gates.flatMap((gate, v) => (((gate >> 32n) & 7n) !== 0n ? [v] : []));
    expect(dpl3).toEqual([3, 0x80, 0x92]);
    expect(stacks).toEqual([1, 2, 8, 18, 0x92]);
  });
});

describe('a seed', () => {
  it('moves every kernel stack and ministack, and is otherwise without effect on the cases', () => {
    const other = buildImage('linux', { cpus: 3, seed: 8 });
    for (const [i, stack] of image.stacks.entries())
      expect(other.stacks[i].range.start >> 16n).not.toBe(stack.range.start >> 16n);
    expect(other.ministacks).not.toEqual(image.ministacks);
    expect(other.cases).toEqual(image.cases);
  });

  it('gives every stack its own bits 31:16, and none that a case uses', () => {
    for (const seed of [0, 1, 2, 3, 1000, 0x7fff_ffff]) {
      const { stacks, cases } = buildImage('none', { cpus: 64, seed, only: (c) => c.path === 'int80' });
      const tags = stacks.map(({ range }) => (range.start >> 16n) & 0xffffn);
      expect(new Set(tags).size).toBe(tags.length);
      for (const c of cases) expect(tags).not.toContain(BigInt(c.set >>> 16));
    }
  });

  it('puts ministacks where bits 31:16 are free, each in 64 bytes of its own', () => {
    for (const name of ['prototype', 'linux'] as const) {
      const { ministacks } = buildImage(name, { cpus: 64, seed: 5, only: () => false });
      expect(new Set(ministacks).size).toBe(64);
      for (const address of ministacks) {
        expect(address & 0xffff_003fn).toBe(0n);
        expect(address >> 39n).toBe(ESPFIX_BASE >> 39n);
      }
    }
  });
});

describe('options', () => {
  it.each([{ cpus: 0 }, { cpus: 65 }, { cpus: 1.5 }, { seed: -1 }, { seed: 2 ** 31 }])(
    'refuses %j',
    (options) => {
      expect(() => buildImage('none', options)).toThrow(RangeError);
    },
  );
  it('keeps only the cases that are asked for', () => {
    const { cases } = buildImage('none', {
      only: (c) => c.path === 'nmi' && c.cs === 'cs16-ldt' && c.set === 0xffff,
    });
    expect(cases.map((c) => c.ss)).toEqual(['ss16-ldt', 'ss32-ldt', 'flat']);
  });
});

describe('the case table', () => {
  const cases = buildCases('linux');
  it('has every path, code segment and stack segment of the silicon table together', () => {
    for (const path of returnPaths)
      for (const cs of ['cs64', 'cs32-gdt', 'cs32-ldt', 'cs16-ldt'])
        for (const ss of ['ss16-ldt', 'ss32-ldt', 'flat'])
          expect(cases.some((c) => c.path === path && c.cs === cs && c.ss === ss && !c.faulty)).toBe(true);
  });
  it('has every faulty frame on every path, each with the fault to expect', () => {
    for (const path of returnPaths) {
      const faulty = cases.filter((c) => c.path === path && c.faulty);
      expect(faulty.length).toBeGreaterThanOrEqual(14);
      for (const c of faulty) expect(c.expected).toBeDefined();
    }
  });
  it('lets no frame that must be refused pass for good', () => {
    const at = Number(symbol('cases') - USER_RODATA);
    const rodata = Number(translate(symbol('kernel_pml4'), USER_RODATA)?.physical);
    for (const [i, { expected }] of image.cases.entries()) {
      const field = (offset: number) => loaded.memory.getUint32(rodata + at + i * record.size + offset, true);
      expect(field(record.expectedFault)).toBe(expected === undefined ? 0 : expected.vector + 1);
      expect(field(record.alternativeFault) === 0).toBe(expected === undefined);
    }
  });
  it.each(['q1-', 'q2-', 'q3-', 'q4-'])('answers question %s', (question) => {
    expect(cases.some((c) => c.name.startsWith(question))).toBe(true);
  });
});

describe('every 64-bit variant', () => {
  const names = variants.filter((v) => v.bits === 64).map((v) => v.name);
  it.each(names)('%s names the bounds of its return to user mode', (name) => {
    const { symbols } = buildImage(name, { cpus: 1, only: () => false });
    const begin = symbols.get('return_to_user') ?? 0n;
    const end = symbols.get('return_to_user_end') ?? 0n;
    const irets = [...symbols].filter(([label]) => label.startsWith('iretq.') && label !== 'iretq.kernel');
    expect(begin).toBeGreaterThan(0n);
    expect(irets.length).toBe(name === 'none' ? 1 : 2);
    for (const [, address] of irets) {
      expect(address).toBeGreaterThan(begin);
      expect(address).toBeLessThan(end);
    }
  });
});
