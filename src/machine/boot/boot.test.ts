/** The loaders: what they accept, what they refuse and how they say so; and that no image makes them do anything else. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { State } from '../../isa/state.ts';
import { type ElfSegmentFields, elf, multibootHeader } from '../image.fixture.ts';
import { RSDP_ADDRESS } from './acpi/layout.ts';
import { errorOf, load, loadedOrRefused, MIB, memoryOf, RAM } from './boot.fixture.ts';
import { ImageError } from './load.ts';
import { type Load, memoryMap } from './plan.ts';

const TEXT = Uint8Array.of(0xf4, 0xeb, 0xfd, 0x90);
const SEGMENT: ElfSegmentFields = { physical: MIB, bytes: TEXT };
const HEADER = multibootHeader(3);

function note(name: string, type: number, descriptor: Uint8Array): Uint8Array {
  const pad = (n: number) => (n + 3) & ~3;
  const bytes = new Uint8Array(12 + pad(name.length + 1) + pad(descriptor.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, name.length + 1, true);
  view.setUint32(4, descriptor.length, true);
  view.setUint32(8, type, true);
  bytes.set(new TextEncoder().encode(name), 12);
  bytes.set(descriptor, 12 + pad(name.length + 1));
  return bytes;
}

function pvhImage(entry = MIB, bits: 32 | 64 = 64): Uint8Array {
  const descriptor = new Uint8Array(bits / 8);
  new DataView(descriptor.buffer).setUint32(0, entry, true);
  const bytes = note('Xen', 18, descriptor);
  return elf(bits, BigInt(MIB), [SEGMENT, { physical: 0, bytes, type: 4 }]);
}

const patched = (image: Uint8Array, at: number, ...bytes: number[]) => {
  const copy = image.slice();
  copy.set(bytes, at);
  return copy;
};

describe('ELF', () => {
  const image = elf(32, BigInt(MIB), [SEGMENT], HEADER);
  const image64 = elf(64, BigInt(MIB), [SEGMENT], HEADER);

  it.each([
    ['class', patched(image, 4, 3), /^ELF class: 3, expected 1 \(32 bits\) or 2 \(64 bits\)$/],
    ['byte order', patched(image, 5, 2), /^ELF data encoding: 2, expected 1/],
    ['identification version', patched(image, 6, 0), /^ELF identification version: 0, expected 1/],
    ['type', patched(image, 16, 3), /^ELF type: 3, expected 2 \(executable\)$/],
    ['machine', patched(image, 18, 40), /^ELF machine: 40, expected 3 \(386\)$/],
    ['machine of ELF64', patched(image64, 18, 3), /^ELF machine: 3, expected 62 \(x86-64\)$/],
    ['version', patched(image, 20, 9), /^ELF version: 9, expected 1/],
    [
      'program headers far away',
      patched(image, 28, 0xff, 0xff, 0xff, 0xff),
      /^ELF program headers: at 0xffffffff/,
    ],
    ['program headers within the header', patched(image, 28, 4, 0, 0, 0), /^ELF program headers: at 0x4/],
    ['program header size', patched(image, 42, 31), /^ELF program header size: 31, expected 32/],
    ['no program headers', patched(image, 44, 0, 0), /^ELF program header count: 0, expected at least 1$/],
    ['too many program headers', patched(image, 44, 0xff, 0xff), /^ELF program header count: 65535/],
    [
      'file size beyond the file',
      patched(image, 52 + 16, 0, 0, 1, 0),
      /^ELF segment 0: file bytes .* expected within the file/,
    ],
    ['offset beyond the file', patched(image, 52 + 4, 0xff, 0xff, 0xff, 0xff), /^ELF segment 0: file bytes/],
    [
      'memory size below file size',
      patched(image, 52 + 20, 1, 0, 0, 0),
      /^ELF segment 0: memory size 0x1, expected at least its file size 0x4$/,
    ],
    [
      'entry outside',
      patched(image, 24, 0, 0, 0, 1),
      /^ELF entry: 0x1000000, expected within a loaded segment$/,
    ],
    [
      'a huge ELF64 segment',
      patched(image64, 64 + 40, ...Array(8).fill(0xff)),
      /^ELF segment 0: physical address .* within 52 bits$/,
    ],
    [
      'a huge ELF64 address',
      patched(image64, 64 + 24, ...Array(8).fill(0xff)),
      /^ELF segment 0: physical address .* within 52 bits$/,
    ],
  ])('refuses %s', (_name, bad, message) => {
    expect(errorOf(() => load(bad))).toMatch(message);
  });

  it('refuses a segment beyond RAM', () => {
    const big = elf(32, BigInt(MIB), [{ ...SEGMENT, memorySize: 16 * MIB }], HEADER);
    expect(errorOf(() => load(big))).toBe(
      'ELF segment 0: 0x100000 to 0x1100000, expected within RAM of 0x1000000 (16 MiB)',
    );
  });

  it('refuses overlapping segments', () => {
    const overlapping = elf(32, BigInt(MIB), [SEGMENT, { ...SEGMENT, physical: MIB + 3 }], HEADER);
    expect(errorOf(() => load(overlapping))).toMatch(/^ELF segments 0 and 1: overlap at 0x100003/);
  });

  it('refuses an image with nothing to load', () => {
    expect(errorOf(() => load(elf(32, 0n, [{ ...SEGMENT, bytes: new Uint8Array(0) }], HEADER)))).toMatch(
      /^ELF segments: none to load/,
    );
  });

  it('every truncation is refused, but those that lose nothing', () => {
    for (let length = 0; length < image.length; length++)
      expect(errorOf(() => load(image.slice(0, length)))).toMatch(/^[A-Za-z]/);
  });

  it('translates a virtual entry as its segment is translated', () => {
    const high = elf(64, 0xffff_ffff_8010_0002n, [{ ...SEGMENT, virtual: 0xffff_ffff_8010_0000n }], HEADER);
    const plan = load(high);
    expect(plan.pieces[0]).toEqual({ address: MIB, bytes: TEXT });
    expect(entryOf(plan)).toBe(MIB + 2);
  });
});

/** The entry that a load sets, by a processor of which only that is looked at. */
function entryOf(plan: Load): number {
  return Number(enteredState(plan).rip);
}

function enteredState(plan: Load): State {
  const state = new State(new WebAssembly.Memory({ initial: 1 }), 0);
  plan.enter(state as unknown as Parameters<Load['enter']>[0]);
  return state;
}

describe('Multiboot 1', () => {
  const image = elf(32, BigInt(MIB), [SEGMENT], HEADER);

  it('hands over magic, information and entry (3.2, 3.3)', () => {
    const plan = load(image, { commandLine: 'a=1 "b c"', initrd: Uint8Array.of(9, 8, 7) });
    const state = enteredState(plan);
    const { view, text } = memoryOf(plan);
    expect([state.gpr[0], state.rip]).toEqual([0x2bad_b002n, BigInt(MIB)]);
    const info = Number(state.gpr[3]);
    const field = (offset: number) => view.getUint32(info + offset, true);
    expect(field(0)).toBe(0b10_0100_1101);
    expect([field(4), field(8)]).toEqual([639, 15 * 1024]);
    expect(text(field(16))).toBe('a=1 "b c"');
    expect(text(field(64))).toBe('espfix');
    expect(field(20)).toBe(1);
    const [start, end] = [view.getUint32(field(24), true), view.getUint32(field(24) + 4, true)];
    expect([start % 4096, end - start, view.getUint8(start)]).toEqual([0, 3, 9]);
    const ranges = [];
    for (let at = field(48); at < field(48) + field(44); at += view.getUint32(at, true) + 4)
      ranges.push({
        address: Number(view.getBigUint64(at + 4, true)),
        size: Number(view.getBigUint64(at + 12, true)),
        type: view.getUint32(at + 20, true),
      });
    expect(ranges).toEqual(memoryMap(RAM));
  });

  it('without command line and module says so', () => {
    const plan = load(image);
    const { view } = memoryOf(plan);
    expect(view.getUint32(Number(enteredState(plan).gpr[3]), true)).toBe(0b10_0100_0001);
  });

  it('nothing that is handed over overlaps the image or itself', () => {
    const low = { physical: 0x9100, bytes: new Uint8Array(64) };
    const plan = load(elf(32, BigInt(MIB), [low, SEGMENT], HEADER), {
      commandLine: 'x'.repeat(5000),
      initrd: new Uint8Array(10_000),
    });
    const ranges = plan.pieces
      .map(({ address, bytes }) => [address, address + bytes.length])
      .sort(([a], [b]) => a - b);
    for (let i = 1; i < ranges.length; i++) expect(ranges[i][0]).toBeGreaterThanOrEqual(ranges[i - 1][1]);
  });

  it.each([0, 4, 8180])('finds a header at offset %i', (offset) => {
    const file = new Uint8Array(9000);
    file.set(multibootHeader(0x10003, [MIB + offset, MIB, 0, 0, MIB + 64]), offset);
    if (offset === 8180) expect(errorOf(() => load(file))).toMatch(/^Multiboot address fields/);
    else expect(entryOf(load(file))).toBe(MIB + 64);
  });

  it.each([
    ['beyond 8 KiB', 8192],
    ['unaligned', 2],
  ])('does not find one %s', (_name, offset) => {
    const file = new Uint8Array(9000);
    file.set(multibootHeader(0x10003, [MIB, MIB, 0, 0, MIB]), offset);
    expect(errorOf(() => load(file))).toMatch(/^format:/);
  });

  it('refuses a wrong checksum, unknown requirements, and a file that is neither ELF nor has address fields', () => {
    expect(errorOf(() => load(patched(image, 84 + 8, 0)))).toMatch(/^Multiboot header at 0x54: checksum/);
    expect(errorOf(() => load(elf(32, BigInt(MIB), [SEGMENT], multibootHeader(0x13))))).toMatch(
      /^Multiboot flags: 0x13 require 0x10/,
    );
    expect(errorOf(() => load(HEADER.slice()))).toMatch(/^Multiboot flags: bit 16/);
  });

  it('a request for a video mode is ignored', () => {
    expect(entryOf(load(elf(32, BigInt(MIB), [SEGMENT], multibootHeader(7))))).toBe(MIB);
  });

  describe('address fields (3.1.3)', () => {
    const file = (fields: readonly number[], size = 256) => {
      const bytes = new Uint8Array(size).fill(0x90);
      bytes.set(multibootHeader(0x10003, fields), 16);
      return bytes;
    };
    it('load part of the file and reserve memory after it', () => {
      const plan = load(file([MIB + 16, MIB, MIB + 100, MIB + 5000, MIB + 48]));
      expect(plan.pieces[0].address).toBe(MIB);
      expect(plan.pieces[0].bytes.length).toBe(100);
      expect(entryOf(plan)).toBe(MIB + 48);
    });
    it('a load address after the file start leaves the file start out', () => {
      const plan = load(file([MIB + 16, MIB + 8, 0, 0, MIB + 48]));
      expect([plan.pieces[0].address, plan.pieces[0].bytes.length]).toEqual([MIB + 8, 248]);
    });
    it('come before the ELF headers', () => {
      const kludge = elf(
        32,
        BigInt(MIB),
        [SEGMENT],
        multibootHeader(0x10003, [2 * MIB + 84, 2 * MIB, 0, 0, 2 * MIB + 8]),
      );
      expect(entryOf(load(kludge))).toBe(2 * MIB + 8);
    });
    it.each([
      [
        'load_addr above header_addr',
        [MIB, MIB + 4, 0, 0, MIB],
        /^Multiboot load_addr: 0x100004, expected at most header_addr/,
      ],
      [
        'load_addr before the file',
        [MIB + 16, MIB - 4, 0, 0, MIB],
        /^Multiboot load_addr: 0xffffc, expected at least 0x100000/,
      ],
      ['load_end_addr before load_addr', [MIB + 16, MIB, MIB - 1, 0, MIB], /^Multiboot load_end_addr/],
      ['load_end_addr beyond the file', [MIB + 16, MIB, MIB + 257, 0, MIB], /^Multiboot load_end_addr/],
      [
        'bss_end_addr before load_end_addr',
        [MIB + 16, MIB, MIB + 100, MIB + 99, MIB],
        /^Multiboot bss_end_addr/,
      ],
      ['entry_addr outside', [MIB + 16, MIB, 0, 0, MIB + 256], /^Multiboot entry_addr/],
      ['beyond RAM', [MIB + 16, MIB, 0, RAM + 1, MIB], /^Multiboot load_addr to bss_end_addr: .* within RAM/],
    ])('refuse %s', (_name, fields, message) => {
      expect(errorOf(() => load(file(fields)))).toMatch(message);
    });
  });

  it('refuses a command line with a NUL and an initrd beyond RAM', () => {
    expect(errorOf(() => load(image, { commandLine: 'a\0b' }))).toMatch(/^command line/);
    expect(errorOf(() => load(image, { initrd: new Uint8Array(RAM) }))).toMatch(/^initrd/);
  });
});

describe('PVH', () => {
  it.each([32, 64] as const)('enters an ELF%i by its note, with the start info in EBX', (bits) => {
    const plan = load(pvhImage(MIB + 1, bits), { commandLine: 'hello', initrd: Uint8Array.of(1, 2) });
    const state = enteredState(plan);
    expect(state.rip).toBe(BigInt(MIB + 1));
    const { view, text } = memoryOf(plan);
    const info = Number(state.gpr[3]);
    const quad = (offset: number) => Number(view.getBigUint64(info + offset, true));
    expect([view.getUint32(info, true), view.getUint32(info + 4, true)]).toEqual([0x336e_c578, 1]);
    expect(text(quad(24))).toBe('hello');
    expect(quad(32)).toBe(RSDP_ADDRESS);
    expect(view.getUint32(info + 12, true)).toBe(1);
    const module = quad(16);
    expect([
      view.getUint8(Number(view.getBigUint64(module, true))),
      view.getBigUint64(module + 8, true),
    ]).toEqual([1, 2n]);
    const count = view.getUint32(info + 48, true);
    const ranges = Array.from({ length: count }, (_, i) => ({
      address: Number(view.getBigUint64(quad(40) + i * 24, true)),
      size: Number(view.getBigUint64(quad(40) + i * 24 + 8, true)),
      type: view.getUint32(quad(40) + i * 24 + 16, true),
    }));
    expect(ranges).toEqual(memoryMap(RAM));
  });

  it('refuses an entry outside and a note of another size', () => {
    expect(errorOf(() => load(pvhImage(0)))).toBe('PVH entry: 0x0, expected within a loaded segment');
    const odd = elf(64, 0n, [SEGMENT, { physical: 0, bytes: note('Xen', 18, new Uint8Array(5)), type: 4 }]);
    expect(errorOf(() => load(odd))).toMatch(/^PVH entry note: 5 bytes, expected 4 or 8/);
  });

  it.each([
    ['no note', elf(64, 0n, [SEGMENT])],
    [
      'another name',
      elf(64, 0n, [SEGMENT, { physical: 0, bytes: note('GNU', 18, new Uint8Array(8)), type: 4 }]),
    ],
    [
      'another type',
      elf(64, 0n, [SEGMENT, { physical: 0, bytes: note('Xen', 17, new Uint8Array(8)), type: 4 }]),
    ],
    [
      'a damaged note',
      elf(64, 0n, [
        SEGMENT,
        { physical: 0, bytes: note('Xen', 18, new Uint8Array(8)).slice(0, 18), type: 4 },
      ]),
    ],
  ])('an ELF with %s has no boot protocol', (_name, image) => {
    expect(errorOf(() => load(image))).toMatch(/^boot protocol: expected a Multiboot 1 header/);
  });
});

it('something else is no image', () => {
  expect(errorOf(() => load(new TextEncoder().encode('#!/bin/sh\n')))).toBe(
    'format: expected a Linux bzImage, an ELF executable or a Multiboot image',
  );
  expect(errorOf(() => load(new Uint8Array(0)))).toMatch(/^format/);
});

describe('whatever the bytes', () => {
  const images = [
    elf(32, BigInt(MIB), [SEGMENT, { ...SEGMENT, physical: 2 * MIB, memorySize: 9000 }], HEADER),
    elf(64, BigInt(MIB), [SEGMENT], HEADER),
    pvhImage(),
    pvhImage(MIB, 32),
    elf(32, 0n, [SEGMENT], multibootHeader(0x10003, [MIB + 84, MIB, 0, 0, MIB])),
  ];
  const byte = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 }));
  const mutation = fc.record({
    image: fc.constantFrom(...images),
    bytes: fc.array(fc.tuple(fc.nat(300), byte), { maxLength: 8 }),
    runs: fc.array(fc.tuple(fc.nat(300), byte, fc.constantFrom(2, 4, 8)), { maxLength: 3 }),
    length: fc.option(fc.nat(400), { nil: undefined }),
  });
  const mutated = (m: typeof mutation extends fc.Arbitrary<infer T> ? T : never): Uint8Array => {
    const image = m.image.slice(0, m.length ?? m.image.length);
    for (const [at, value] of m.bytes) if (at < image.length) image[at] = value;
    for (const [at, value, count] of m.runs) image.fill(value, at, Math.min(at + count, image.length));
    return image;
  };

  it('an image loads within RAM and without overlaps, or is refused in one line', () => {
    let loaded = 0;
    fc.assert(
      fc.property(mutation, (m) => {
        const options = { commandLine: 'x', initrd: Uint8Array.of(1) };
        const plan = loadedOrRefused(4 * MIB, () => load(mutated(m), options, 4 * MIB));
        if (!plan) return;
        loaded++;
        const entry = entryOf(plan);
        expect(entry).toBeGreaterThanOrEqual(0);
        expect(entry).toBeLessThan(4 * MIB);
      }),
      { numRuns: 5000 },
    );
    expect(loaded).toBeGreaterThan(100);
  });

  it('random bytes are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => load(bytes)).toThrow(ImageError);
      }),
    );
  });
});
