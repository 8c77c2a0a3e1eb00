/** Static ELF64 executables, written byte by byte. System V ABI, "Object Files"; AMD64 supplement. */

/** A PT_LOAD segment. `memorySize` beyond the data is zero-filled. */
export interface Segment {
  readonly address: bigint;
  readonly data: Uint8Array;
  readonly memorySize?: number;
  readonly writable: boolean;
  readonly executable: boolean;
}

const HEADER = 64;
const PROGRAM_HEADER = 56;
const PAGE = 4096;

/** An ET_EXEC ELF64 image for x86-64. Segment addresses are multiples of 4096. */
export function writeElf(entry: bigint, segments: readonly Segment[]): Uint8Array {
  const align = (n: number) => Math.ceil(n / PAGE) * PAGE;
  const offsets: number[] = [];
  let end = align(HEADER + segments.length * PROGRAM_HEADER);
  for (const segment of segments) {
    if (segment.address % BigInt(PAGE) !== 0n) throw new RangeError('segment address is not page-aligned');
    offsets.push(end);
    end = align(end + segment.data.length);
  }
  const image = new Uint8Array(end);
  const view = new DataView(image.buffer);
  // ELFCLASS64, ELFDATA2LSB, EV_CURRENT, System V.
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, entry, true);
  view.setBigUint64(32, BigInt(HEADER), true);
  view.setUint16(52, HEADER, true);
  view.setUint16(54, PROGRAM_HEADER, true);
  view.setUint16(56, segments.length, true);
  view.setUint16(58, 64, true);
  segments.forEach((segment, index) => {
    const header = HEADER + index * PROGRAM_HEADER;
    view.setUint32(header, 1, true); // PT_LOAD
    view.setUint32(header + 4, 4 | (segment.writable ? 2 : 0) | (segment.executable ? 1 : 0), true);
    view.setBigUint64(header + 8, BigInt(offsets[index] as number), true);
    view.setBigUint64(header + 16, segment.address, true);
    view.setBigUint64(header + 24, segment.address, true);
    view.setBigUint64(header + 32, BigInt(segment.data.length), true);
    view.setBigUint64(header + 40, BigInt(segment.memorySize ?? segment.data.length), true);
    view.setBigUint64(header + 48, BigInt(PAGE), true);
    image.set(segment.data, offsets[index]);
  });
  return image;
}
