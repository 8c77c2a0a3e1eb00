/** Memory operands of x87 instructions and of extended state: blocks longer than a register. SDM vol. 1 8.1.10. */
import type { Instruction } from '../isa/instruction.ts';
import type { SegmentNumber } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { type AccessSize, probeSegmentWrite, readSegment, writeSegment } from './linear.ts';
import { advance, effectiveAddress } from './operands.ts';

export interface Place {
  readonly segment: SegmentNumber;
  readonly offset: bigint;
}

/** Where the memory operand stands. */
export function place(cpu: Cpu, instruction: Instruction): Place {
  return effectiveAddress(cpu, instruction, 0);
}

/** Calls `each` for the parts of `size` bytes, `part` bytes each and the rest in powers of two. */
function parts(size: number, part: AccessSize, each: (at: number, bytes: AccessSize) => void): void {
  let at = 0;
  let bytes: AccessSize = part;
  while (at < size) {
    while (at + bytes > size) bytes = (bytes >> 1) as AccessSize;
    each(at, bytes);
    at += bytes;
  }
}

/** `size` bytes from `from` bytes beyond the operand's start, read in parts of `part` bytes. */
export function readBlock(
  cpu: Cpu,
  instruction: Instruction,
  { segment, offset }: Place,
  from: number,
  size: number,
  part: AccessSize = 8,
): DataView {
  const view = new DataView(new ArrayBuffer((size + 7) & ~7));
  parts(size, part, (at, bytes) => {
    const value = readSegment(cpu, segment, advance(instruction, offset, from + at), bytes);
    if (bytes === 8) view.setBigUint64(at, value, true);
    else if (bytes === 4) view.setUint32(at, Number(value), true);
    else if (bytes === 2) view.setUint16(at, Number(value), true);
    else view.setUint8(at, Number(value));
  });
  return view;
}

/** Faults as {@link writeBlock} would, before a byte is written. */
export function probeBlock(
  cpu: Cpu,
  instruction: Instruction,
  { segment, offset }: Place,
  from: number,
  size: number,
  part: AccessSize = 8,
): void {
  parts(size, part, (at, bytes) =>
    probeSegmentWrite(cpu, segment, advance(instruction, offset, from + at), bytes),
  );
}

/** Writes `size` bytes of `view`; what may fault does so before the first is written. */
export function writeBlock(
  cpu: Cpu,
  instruction: Instruction,
  where: Place,
  from: number,
  size: number,
  view: DataView,
  part: AccessSize = 8,
): void {
  probeBlock(cpu, instruction, where, from, size, part);
  parts(size, part, (at, bytes) => {
    const value =
      bytes === 8
        ? view.getBigUint64(at, true)
        : BigInt(
            bytes === 4
              ? view.getUint32(at, true)
              : bytes === 2
                ? view.getUint16(at, true)
                : view.getUint8(at),
          );
    writeSegment(cpu, where.segment, advance(instruction, where.offset, from + at), bytes, value);
  });
}

/** An integer or floating-point operand of 16 to 80 bits, unsigned. */
export function readMemory(cpu: Cpu, instruction: Instruction, bits: number): bigint {
  const where = place(cpu, instruction);
  if (bits !== 80) return readSegment(cpu, where.segment, where.offset, (bits / 8) as AccessSize);
  const view = readBlock(cpu, instruction, where, 0, 10);
  return (BigInt(view.getUint16(8, true)) << 64n) | view.getBigUint64(0, true);
}

/** Writes such an operand: 80 bits in two stores, of which the first stays if the second faults (measured). */
export function writeMemory(cpu: Cpu, instruction: Instruction, bits: number, value: bigint): void {
  const where = place(cpu, instruction);
  const unsigned = BigInt.asUintN(bits, value);
  if (bits !== 80) {
    writeSegment(cpu, where.segment, where.offset, (bits / 8) as AccessSize, unsigned);
    return;
  }
  writeSegment(cpu, where.segment, where.offset, 8, BigInt.asUintN(64, unsigned));
  writeSegment(cpu, where.segment, advance(instruction, where.offset, 8), 2, unsigned >> 64n);
}
