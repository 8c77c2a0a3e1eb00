/** ELF32 executables for boot loaders (System V ABI, Chapters 4 and 5; Xen ELF notes for PVH). */

export interface Segment {
  /** Physical address, which is also the segment's virtual address. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** Bytes in memory, the rest zero. */
  readonly memorySize: number;
  readonly execute?: boolean;
  readonly write?: boolean;
}

const EM_386 = 3;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry point of the PVH boot protocol. */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const HEADER = 52;
const PROGRAM_HEADER = 32;

/**
 * Writes an ELF32 executable with one PT_LOAD a segment and a PVH note. Boot loaders take ELF32 for 32-bit
 * entry; what the code does afterwards is its own affair.
 */
export function writeElf32(entry: bigint, segments: readonly Segment[]): Uint8Array {
  const note = new Uint8Array(20);
  const noteView = new DataView(note.buffer);
  noteView.setUint32(0, 4, true);
  noteView.setUint32(4, 4, true);
  noteView.setUint32(8, XEN_ELFNOTE_PHYS32_ENTRY, true);
  note.set(new TextEncoder().encode('Xen\0'), 12);
  noteView.setUint32(16, Number(entry), true);

  const headers = HEADER + PROGRAM_HEADER * (segments.length + 1);
  const noteAt = headers;
  let at = headers + note.length;
  const offsets = segments.map((segment) => {
    // File offset and address agree modulo the page size, as p_align promises.
    at += Number((segment.address - BigInt(at)) & 0xfffn);
    const offset = at;
    at += segment.bytes.length;
    return offset;
  });
  const file = new Uint8Array(at);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1], 0);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, EM_386, true);
  view.setUint32(20, 1, true);
  view.setUint32(24, Number(entry), true);
  view.setUint32(28, HEADER, true);
  view.setUint16(40, HEADER, true);
  view.setUint16(42, PROGRAM_HEADER, true);
  view.setUint16(44, segments.length + 1, true);

  const header = (
    index: number,
    type: number,
    offset: number,
    address: number,
    fileSize: number,
    memorySize: number,
    flags: number,
    align: number,
  ) => {
    const p = HEADER + PROGRAM_HEADER * index;
    for (const [i, value] of [type, offset, address, address, fileSize, memorySize, flags, align].entries())
      view.setUint32(p + 4 * i, value, true);
  };
  for (const [i, segment] of segments.entries()) {
    file.set(segment.bytes, offsets[i]);
    const flags = 4 | (segment.write ? 2 : 0) | (segment.execute ? 1 : 0);
    header(
      i,
      PT_LOAD,
      offsets[i],
      Number(segment.address),
      segment.bytes.length,
      segment.memorySize,
      flags,
      0x1000,
    );
  }
  header(segments.length, PT_NOTE, noteAt, 0, note.length, note.length, 4, 4);
  file.set(note, noteAt);
  return file;
}
