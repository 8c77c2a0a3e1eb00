/** Multiboot 2: headers that are met and refused, and what is handed over. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RAX, RBX } from '../../isa/state.ts';
import { elf } from '../image.fixture.ts';
import { Machine } from '../machine.ts';
import { RSDP_ADDRESS } from './acpi/layout.ts';
import { errorOf, loadedOrRefused, MIB } from './boot.fixture.ts';
import { Fields } from './fields.ts';
import { loadImage } from './load.ts';
import type { BootOptions } from './plan.ts';

const RAM = 8 * MIB;
const MAGIC = 0xe852_50d6;

type Tag = readonly [type: number, words: readonly number[], optional?: boolean];

/** A header with these tags and the end tag. */
function header(...tags: Tag[]): Uint8Array {
  const body = new Fields();
  for (const [type, words, optional = false] of [...tags, [0, []] as Tag]) {
    body
      .u16(type, optional ? 1 : 0)
      .u32(8 + words.length * 4)
      .u32(...words);
    while (body.bytes.length % 8 !== 0) body.u8(0);
  }
  const length = 16 + body.bytes.length;
  return new Fields()
    .u32(MAGIC, 0, length, -(MAGIC + length) >>> 0)
    .u8(...body.bytes)
    .finish();
}

/** A file of 256 bytes whose header, at 8, has address and entry tags; its code follows at 128. */
function flat(addresses: readonly number[], entry: number, ...more: Tag[]): Uint8Array {
  const file = new Uint8Array(256).fill(0x90);
  file.set(header([2, addresses], [3, [entry]], ...more), 8);
  return file;
}
const GOOD = [MIB + 8, MIB, 0, 0] as const;

const load = (image: Uint8Array, options: BootOptions = {}) => loadImage(image, RAM, options);

it('hands over magic, entry and information', () => {
  const machine = Machine.create({ memory: RAM / MIB });
  const initrd = Uint8Array.of(5, 6);
  machine.boot(flat(GOOD, MIB + 128), { commandLine: 'a b', initrd });
  const [cpu] = machine.cpus;
  expect([cpu.gpr[RAX], cpu.rip]).toEqual([0x36d7_6289n, BigInt(MIB + 128)]);
  const start = Number(cpu.gpr[RBX]);
  const size = new DataView(machine.readPhysical(start, 4).buffer).getUint32(0, true);
  const view = new DataView(machine.readPhysical(start, size).buffer);
  const tags = new Map<number, DataView>();
  for (let at = 8; at < size; at += (view.getUint32(at + 4, true) + 7) & ~7)
    tags.set(view.getUint32(at, true), new DataView(view.buffer, at + 8, view.getUint32(at + 4, true) - 8));
  expect([start % 8, ...tags.keys()]).toEqual([0, 1, 2, 3, 4, 6, 14, 15, 0]);
  const tag = (type: number) => tags.get(type) as DataView;
  const text = (at: DataView, from = 0) =>
    new TextDecoder().decode(new Uint8Array(at.buffer, at.byteOffset + from, at.byteLength - from));
  expect([text(tag(1)), text(tag(2)), text(tag(3), 8)]).toEqual(['a b\0', 'espfix\0', 'initrd\0']);
  const module = [tag(3).getUint32(0, true), tag(3).getUint32(4, true)];
  expect(machine.readPhysical(module[0], module[1] - module[0])).toEqual(initrd);
  expect([tag(4).getUint32(0, true), tag(4).getUint32(4, true)]).toEqual([639, 7 * 1024]);
  expect([tag(6).getUint32(0, true), tag(6).byteLength]).toEqual([24, 8 + 6 * 24]);
  const pointer = new Uint8Array(tag(15).buffer, tag(15).byteOffset, 36);
  expect(pointer).toEqual(machine.readPhysical(RSDP_ADDRESS, 36));
  expect(tag(14).byteLength).toBe(20);
});

it('an ELF file goes where its segments say, and is entered at its entry or that of the tag', () => {
  const segment = { physical: MIB, bytes: new Uint8Array(64).fill(0xf4) };
  const entryOf = (image: Uint8Array) => {
    const machine = Machine.create({ memory: RAM / MIB });
    machine.boot(image);
    return machine.cpus[0].rip;
  };
  // The header must be at a multiple of 8; it stands behind 52 + 32 bytes of ELF headers.
  const prefix = (...tags: Tag[]) => Uint8Array.of(0, 0, 0, 0, ...header(...tags));
  expect(entryOf(elf(32, BigInt(MIB + 4), [segment], prefix()))).toBe(BigInt(MIB + 4));
  expect(entryOf(elf(32, BigInt(MIB + 4), [segment], prefix([3, [MIB + 8]])))).toBe(BigInt(MIB + 8));
});

it('load_addr of all ones loads from the file’s beginning', () => {
  const { pieces } = load(flat([MIB + 8, 0xffff_ffff, 0, 0], MIB + 128));
  expect([pieces[0].address, pieces[0].bytes.length]).toEqual([MIB, 256]);
});

describe('requests', () => {
  it.each<[string, Tag]>([
    ['information that is given', [1, [1, 3, 6, 15]]],
    ['information that is not, but is optional', [1, [7], true]],
    ['a video mode', [5, [1024, 768, 32]]],
    ['to be loaded elsewhere', [10, [MIB, 4 * MIB, 4096, 0]]],
    ['something unknown but optional', [77, [], true]],
  ])('%s is met', (_name, tag) => {
    expect(load(flat(GOOD, MIB + 128, tag)).pieces.length).toBeGreaterThan(1);
  });

  it.each<[string, Uint8Array, RegExp]>([
    [
      'information that is not given',
      flat(GOOD, MIB + 128, [1, [8]]),
      /^Multiboot 2 information request: type 8/,
    ],
    ['something unknown', flat(GOOD, MIB + 128, [77, []]), /^Multiboot 2 tag: type 77 is required/],
    ['too few addresses', flat([MIB], MIB), /^Multiboot 2 address tag: 1 words, expected 4/],
    ['an entry outside', flat(GOOD, MIB + 256), /^Multiboot 2 entry: 0x100100, expected within the image/],
    ['addresses that do not fit', flat([MIB, MIB + 4, 0, 0], MIB), /^Multiboot load_addr: 0x100004/],
    ['no entry', withoutEntry(), /^Multiboot 2 entry tag: none/],
    ['no addresses', Uint8Array.of(...header(), ...new Uint8Array(64)), /^Multiboot 2 address tag: none/],
    ['another architecture', patched(12, 4), /^Multiboot 2 header at 0x8: its checksum is wrong/],
    ['a length of nothing', withLength(16), /^Multiboot 2 header_length: 16/],
    ['a length beyond the file', withLength(4096), /^Multiboot 2 header_length: 4096/],
    ['a tag of no size', patched(8 + 20, 0), /^Multiboot 2 tag at 0x18: 0 bytes/],
    ['a tag beyond the header', patched(8 + 20, 200), /^Multiboot 2 tag at 0x18: 200 bytes/],
  ])('%s is refused', (_name, image, message) => {
    expect(errorOf(() => load(image))).toMatch(message);
  });
});

function withoutEntry(): Uint8Array {
  const file = new Uint8Array(256);
  file.set(header([2, GOOD]), 8);
  return file;
}

function patched(at: number, value: number): Uint8Array {
  const file = flat(GOOD, MIB + 128);
  file[at] = value;
  return file;
}

/** With another length, and the checksum for it. */
function withLength(length: number): Uint8Array {
  const file = flat(GOOD, MIB + 128);
  const view = new DataView(file.buffer);
  view.setUint32(16, length, true);
  view.setUint32(20, -(MAGIC + length) >>> 0, true);
  return file;
}

it('a header with changed bytes loads within RAM, or is refused in one line', () => {
  let loaded = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 24, max: 80 }), fc.integer({ min: 0, max: 255 })), {
        maxLength: 3,
      }),
      (changes) => {
        const image = flat(GOOD, MIB + 128);
        for (const [at, value] of changes) image[at] = value;
        if (loadedOrRefused(RAM, () => load(image, { initrd: Uint8Array.of(1) }))) loaded++;
      },
    ),
    { numRuns: 1000 },
  );
  expect(loaded).toBeGreaterThan(50);
});
