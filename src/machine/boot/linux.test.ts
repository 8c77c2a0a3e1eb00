/** Linux kernels: what is handed over at the entry, what is refused, and that no header makes the loader do anything else. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CS, DS } from '../../isa/state.ts';
import { Machine } from '../machine.ts';
import { errorOf, load, loadedOrRefused, MIB, memoryOf, RAM } from './boot.fixture.ts';
import { ADDRESS, bzImage, INIT_SIZE } from './bz-image.fixture.ts';
import { type BootOptions, memoryMap } from './plan.ts';

function patched(at: number, ...bytes: number[]): Uint8Array {
  const image = bzImage();
  image.set(bytes, at);
  return image;
}

function entered(image: Uint8Array, options: BootOptions = {}) {
  const machine = Machine.create({ memory: RAM / MIB });
  machine.boot(image, options);
  return machine;
}

describe('what is handed over', () => {
  const initrd = Uint8Array.of(7, 8, 9);
  const machine = entered(bzImage(), { commandLine: 'console=ttyS0 ä', initrd });
  const [cpu] = machine.cpus;
  const zeroPage = Number(cpu.gpr[6]);
  const parameters = machine.readPhysical(zeroPage, 4096);
  const view = new DataView(parameters.buffer);

  it('the 64-bit entry, in 64-bit mode with the promised segments and memory mapped to itself', () => {
    expect(cpu.rip).toBe(BigInt(ADDRESS + 0x200));
    expect(cpu.mode64).toBe(true);
    expect([cpu.segSelector[CS], cpu.segSelector[DS]]).toEqual([0x10, 0x18]);
    for (const address of [0, ADDRESS, RAM - 8])
      expect(machine.readMemory(BigInt(address), 8)).toEqual(machine.readPhysical(address, 8));
    // The descriptors behind the selectors are there too: a far return to them works.
    const gdt = new DataView(machine.readPhysical(Number(cpu.gdtrBase), 32).buffer);
    expect([gdt.getBigUint64(0x10, true), gdt.getBigUint64(0x18, true)]).toEqual([
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
    ]);
  });

  it('the setup header, the command line and the initrd', () => {
    expect(new TextDecoder().decode(parameters.subarray(0x202, 0x206))).toBe('HdrS');
    expect(view.getUint8(0x210)).toBe(0xff);
    const line = machine.readPhysical(view.getUint32(0x228, true), 17);
    expect(new TextDecoder().decode(line)).toBe('console=ttyS0 ä\0');
    const at = view.getUint32(0x218, true);
    expect(at % 4096).toBe(0);
    expect(machine.readPhysical(at, view.getUint32(0x21c, true))).toEqual(initrd);
  });

  it('the address map and the RSDP', () => {
    const map = Array.from({ length: view.getUint8(0x1e8) }, (_, i) => ({
      address: Number(view.getBigUint64(0x2d0 + i * 20, true)),
      size: Number(view.getBigUint64(0x2d8 + i * 20, true)),
      type: view.getUint32(0x2e0 + i * 20, true),
    }));
    expect(map).toEqual(memoryMap(RAM));
    const rsdp = machine.readPhysical(Number(view.getBigUint64(0x70, true)), 8);
    expect(new TextDecoder().decode(rsdp)).toBe('RSD PTR ');
  });

  it('a kernel without a 64-bit entry starts at its beginning in protected mode', () => {
    const state = entered(patched(0x236, 0)).cpus[0];
    expect([state.rip, state.mode64, state.cr0 & 0x8000_0001n]).toEqual([BigInt(ADDRESS), false, 1n]);
    expect([state.segSelector[CS], state.segSelector[DS]]).toEqual([0x10, 0x18]);
  });

  it('what is reserved for the kernel holds nothing else', () => {
    const { view: memory } = memoryOf(load(bzImage(), { initrd: new Uint8Array(6 * MIB).fill(0xaa) }));
    for (let at = ADDRESS + 4096; at < ADDRESS + INIT_SIZE; at += 4096) expect(memory.getUint8(at)).toBe(0);
  });

  it('the initrd goes as high as the kernel allows, and below the kernel where it must', () => {
    const initrdAt = (image: Uint8Array, size: number) => {
      const plan = load(image, { initrd: new Uint8Array(size) });
      return plan.pieces.find(({ bytes }) => bytes.length === size)?.address;
    };
    expect(initrdAt(bzImage(), 5000)).toBe(RAM - 8192);
    expect(initrdAt(patched(0x22c, 0xff, 0xff, 0x7f, 0), 5000)).toBe(8 * MIB - 8192);
    expect(initrdAt(patched(0x22c, 0xff, 0xff, 0x57, 0), 5000)).toBe(ADDRESS - 8192);
  });
});

it('a kernel runs', () => {
  // MOV ESI, [RSI + 202H]; MOV EAX, ESI; MOV DX, F4H; OUT DX, EAX; HLT.
  const code = [0x8b, 0xb6, 0x02, 0x02, 0, 0, 0x89, 0xf0, 0x66, 0xba, 0xf4, 0, 0xef, 0xf4];
  const machine = entered(bzImage(Uint8Array.from(code)));
  expect(machine.run({ maxInstructions: 100 })).toMatchObject({ reason: 'exit', value: 0x5372_6448 });
});

describe('refused', () => {
  it.each<[string, Uint8Array, RegExp]>([
    ['an old protocol', patched(0x206, 0x09, 0x02), /^Linux boot protocol: 2.09, expected at least 2.10/],
    ['a zImage', patched(0x211, 0), /^Linux loadflags: bit 0 is clear/],
    ['a size of nothing', patched(0x1f4, 0, 0, 0, 0), /^Linux syssize: .* expected within the file/],
    ['a truncated file', bzImage().slice(0, -16), /^Linux syssize: kernel at 0x600 to/],
    ['a truncated header', bzImage().slice(0, 0x230), /^Linux setup header: a file of 560 bytes/],
    ['setup sectors beyond the file', patched(0x1f1, 64), /^Linux syssize/],
    ['no alignment', patched(0x230, 0, 0, 0, 0), /^Linux kernel_alignment: 0x0, expected a power of two/],
    ['an odd alignment', patched(0x230, 3), /^Linux kernel_alignment: 0x200003/],
    ['an unaligned address', patched(0x258, 1), /^Linux pref_address: 0x400001/],
    ['an address above 4 GiB', patched(0x25c, 1), /^Linux pref_address: 0x100400000/],
    ['an address below 1 MiB', patched(0x258, 0, 0, 0, 0), /^Linux pref_address: 0x0/],
    ['no room for itself', patched(0x260, 0, 0, 0, 0), /^Linux init_size: 0x0, expected at least/],
    ['a header that ends early', patched(0x201, 0x20), /^Linux setup header: ends at 0x222/],
    ['beyond RAM', patched(0x25b, 1), /^Linux kernel: 0x1400000 to .* within RAM of 0x1000000/],
  ])('%s', (_name, image, message) => {
    expect(errorOf(() => load(image))).toMatch(message);
  });

  it('a command line that is too long for it, or has a NUL', () => {
    expect(errorOf(() => load(bzImage(), { commandLine: 'x'.repeat(2048) }))).toBe(
      "command line: 2048 bytes, expected at most the kernel's 2047",
    );
    expect(load(bzImage(), { commandLine: 'x'.repeat(2047) }).pieces.length).toBeGreaterThan(3);
    expect(errorOf(() => load(bzImage(), { commandLine: 'a\0' }))).toMatch(/^command line: contains a NUL/);
  });

  it('an initrd for which there is no room', () => {
    expect(errorOf(() => load(bzImage(), { initrd: new Uint8Array(11 * MIB) }))).toMatch(
      /^initrd: 0xb00000 bytes, expected room/,
    );
    expect(errorOf(() => load(patched(0x22c, 0, 0, 0, 0), { initrd: Uint8Array.of(1) }))).toMatch(/^initrd/);
  });
});

it('a header with changed bytes loads within RAM and without overlaps, or is refused in one line', () => {
  const byte = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 }));
  const at = fc.oneof(fc.integer({ min: 0x1f1, max: 0x268 }), fc.nat(0x900));
  let loaded = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(at, byte), { maxLength: 5 }),
      fc.option(fc.nat(0x900), { nil: undefined, freq: 10 }),
      (changes, length) => {
        const image = bzImage().slice(0, length);
        for (const [offset, value] of changes) if (offset < image.length) image[offset] = value;
        const options = { commandLine: 'x', initrd: new Uint8Array(5000) };
        if (loadedOrRefused(RAM, () => load(image, options))) loaded++;
      },
    ),
    { numRuns: 3000 },
  );
  expect(loaded).toBeGreaterThan(100);
});
