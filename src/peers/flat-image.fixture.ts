/**
 * The smallest bootable image: one loadable segment at 1 MiB in a Multiboot 1 ELF32 file, for tests and
 * benchmarks that need a few lines of guest code and no kernel. Multiboot specification 0.6.96, section 3.1.
 */
import { type Assembler, al, bl, createAssembler, dx, eax, esi, mem } from '../kernel/assembler.ts';
import { writeElf32 } from '../kernel/elf.ts';

const IMAGE_ADDRESS = 0x10_0000n;
const MULTIBOOT_MAGIC = 0x1bad_b002;

/**
 * Assembles `body` after a Multiboot header, in 32-bit code, and wraps it in an ELF32 file.
 * Execution starts where `body` does, as a boot loader leaves the machine: flat 32-bit protected mode, no stack.
 */
export function flatImage(body: (a: Assembler) => void): {
  elf: Uint8Array;
  symbols: ReadonlyMap<string, bigint>;
} {
  const a = createAssembler();
  a.section('image').bits(32);
  a.dd(MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC >>> 0);
  a.label('image_start');
  body(a);
  const linked = a.link(new Map([['image', IMAGE_ADDRESS]]));
  const bytes = linked.sections.get('image')?.bytes ?? new Uint8Array();

  const entry = linked.symbols.get('image_start') as bigint;
  const segment = {
    address: IMAGE_ADDRESS,
    bytes,
    memorySize: bytes.length,
    execute: true,
    write: true,
  };
  const elf = writeElf32(entry, [segment]);
  return { elf, symbols: linked.symbols };
}

/** Sets COM1 to 8 data bits, as firmware may not have. Changes AL and DX. */
export function initializeSerial(a: Assembler): void {
  a.mov(dx, 0x3fb);
  a.mov(al, 3);
  a.out(dx, al);
}

/** Ends the run through the debug-exit port, which gives the status `(value << 1) | 1`; halts where there is none. */
export function debugExit(a: Assembler, value: number): void {
  a.mov(eax, value);
  a.mov(dx, 0xf4);
  a.out(dx, eax);
  a.label('halted_for_ever');
  a.cli();
  a.hlt();
  a.jmp('halted_for_ever');
}

/** An image that prints `text` on COM1 and ends with status `(value << 1) | 1`. */
export function helloImage(text: string, value: number): Uint8Array {
  return flatImage((a) => {
    initializeSerial(a);
    a.mov(esi, { kind: 'symbol', name: 'text', addend: 0n });
    a.label('next');
    a.mov(bl, mem(esi));
    a.test(bl, bl);
    a.jz('done');
    a.label('wait');
    a.mov(dx, 0x3fd);
    a.in(al, dx);
    a.test(al, 0x20);
    a.jz('wait');
    a.mov(dx, 0x3f8);
    a.mov(al, bl);
    a.out(dx, al);
    a.instruction('inc', esi);
    a.jmp('next');
    a.label('done');
    debugExit(a, value);
    a.label('text');
    a.db(text, 0);
  }).elf;
}
