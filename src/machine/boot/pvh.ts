/**
 * The PVH boot protocol: an ELF note gives a 32-bit entry; EBX points to a start-info structure. Xen's
 * docs/misc/pvh.pandoc ("x86/HVM direct boot ABI") and public headers elfnote.h, arch-x86/hvm/start_info.h.
 */
import { RBX } from '../../isa/state.ts';
import { RSDP_ADDRESS } from './acpi/layout.ts';
import { checkInside, type Elf } from './elf.ts';
import { ImageError } from './image-error.ts';
import { type BootOptions, enterFlat, type Load, memoryMap, Plan, zeroTerminated } from './plan.ts';

const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const START_MAGIC = 0x336e_c578;

/** The entry that the note gives, or undefined where there is none. Throws ImageError for a note of the wrong size. */
export function findPvhEntry(elf: Elf): number | undefined {
  const note = elf.notes.find(({ name, type }) => name === 'Xen' && type === XEN_ELFNOTE_PHYS32_ENTRY);
  if (!note) return undefined;
  const { descriptor } = note;
  if (descriptor.length !== 4 && descriptor.length !== 8)
    throw new ImageError(`PVH entry note: ${descriptor.length} bytes, expected 4 or 8`);
  const view = new DataView(descriptor.buffer, descriptor.byteOffset);
  if (descriptor.length === 8 && view.getUint32(4, true) !== 0)
    throw new ImageError('PVH entry note: expected an address below 4 GiB');
  return view.getUint32(0, true);
}

/** Loads an image whose entry was found. Throws ImageError. */
export function loadPvh(
  image: Uint8Array,
  elf: Elf,
  entry: number,
  ramBytes: number,
  options: BootOptions,
): Load {
  checkInside(elf, entry, 'PVH entry');
  const plan = new Plan(ramBytes);
  for (const { index, physical, memorySize, offset, fileSize } of elf.segments)
    plan.place(`ELF segment ${index}`, physical, memorySize, image.subarray(offset, offset + fileSize));

  const info = new DataView(new ArrayBuffer(56));
  info.setUint32(0, START_MAGIC, true);
  info.setUint32(4, 1, true);
  if (options.initrd) {
    const module = new DataView(new ArrayBuffer(32));
    module.setBigUint64(0, BigInt(plan.putHigh('initrd', options.initrd)), true);
    module.setBigUint64(8, BigInt(options.initrd.length), true);
    info.setUint32(12, 1, true);
    info.setBigUint64(16, BigInt(plan.putLow('module list', new Uint8Array(module.buffer))), true);
  }
  if (options.commandLine !== undefined) {
    const text = zeroTerminated('command line', options.commandLine);
    info.setBigUint64(24, BigInt(plan.putLow('command line', text)), true);
  }
  const map = memoryMap(ramBytes);
  const entries = new DataView(new ArrayBuffer(24 * map.length));
  map.forEach((range, i) => {
    entries.setBigUint64(i * 24, BigInt(range.address), true);
    entries.setBigUint64(i * 24 + 8, BigInt(range.size), true);
    entries.setUint32(i * 24 + 16, range.type, true);
  });
  info.setBigUint64(32, BigInt(RSDP_ADDRESS), true);
  info.setBigUint64(40, BigInt(plan.putLow('memory map', new Uint8Array(entries.buffer))), true);
  info.setUint32(48, map.length, true);
  const start = plan.putLow('PVH start info', new Uint8Array(info.buffer));
  return {
    pieces: plan.pieces,
    enter(cpu) {
      enterFlat(cpu, entry);
      cpu.gpr[RBX] = BigInt(start);
    },
  };
}
