/**
 * The binary form of fuzz cases and of their results, shared by the native harness, the machine and the
 * comparison. Little-endian; one case and one result are 256 bytes each.
 */

/** Offsets in a case. */
export const CASE = {
  gpr: 0,
  rflags: 128,
  rip: 136,
  fsBase: 144,
  gsBase: 152,
  /** CS SS DS ES FS GS, 16 bits each. */
  selectors: 160,
  /** Offset in scratch memory, a multiple of 8, at which `patch` replaces the pattern. */
  patchAt: 172,
  patch: 176,
  size: 256,
} as const;

/** Bytes of a case's own memory content. */
export const PATCH_BYTES = 80;

/** Offsets in a result. */
export const RESULT = {
  gpr: 0,
  rflags: 128,
  rip: 136,
  cr2: 144,
  fsBase: 152,
  gsBase: 160,
  selectors: 168,
  /** A `Kind`. */
  kind: 180,
  trapno: 181,
  err: 182,
  /** 32-bit words of scratch memory that changed, and the hash over (index, value) of each in order. */
  changed: 184,
  hash: 188,
  /** The first eight of them: word index, value. */
  words: 192,
  size: 256,
} as const;

/** How many changed words a result can hold. */
export const RESULT_WORDS = 8;

/** How a case ended: by an exception, by the watchdog, by a system call, or in a way of which nothing can be compared. */
export const KIND_EXCEPTION = 0;
export const KIND_TIMEOUT = 1;
export const KIND_SYSCALL = 2;
export const KIND_INCOMPARABLE = 3;

/** One step of the hash over changed words; 32-bit arithmetic. */
export function hashWord(hash: number, index: number, value: number): number {
  return Math.imul(Math.imul(hash ^ index, 0x01000193) ^ value, 0x01000193);
}

/** The registers that a case starts with and a result ends with. */
interface Registers {
  gpr: bigint[];
  rflags: bigint;
  rip: bigint;
  fsBase: bigint;
  gsBase: bigint;
  cs: number;
  ss: number;
  ds: number;
  es: number;
  fs: number;
  gs: number;
}

/** A case as a person would write it. */
export interface Case extends Registers {
  patchAt: number;
  patch: Uint8Array;
}

/** A result read out of its 256 bytes. */
export interface Result extends Registers {
  cr2: bigint;
  kind: number;
  trapno: number;
  err: number;
  changed: number;
  hash: number;
  words: { index: number; value: number }[];
  /** The image of vector-state.ts, of cases that use vectors. */
  image?: Uint8Array;
}

/** Writes a case to the 256 bytes at `at`. */
export function encodeCase(view: DataView, at: number, value: Case): void {
  for (let i = 0; i < 16; i++) view.setBigUint64(at + CASE.gpr + i * 8, value.gpr[i], true);
  view.setBigUint64(at + CASE.rflags, value.rflags, true);
  view.setBigUint64(at + CASE.rip, value.rip, true);
  view.setBigUint64(at + CASE.fsBase, value.fsBase, true);
  view.setBigUint64(at + CASE.gsBase, value.gsBase, true);
  [value.cs, value.ss, value.ds, value.es, value.fs, value.gs].forEach((selector, i) => {
    view.setUint16(at + CASE.selectors + i * 2, selector, true);
  });
  view.setUint32(at + CASE.patchAt, value.patchAt, true);
  new Uint8Array(view.buffer, view.byteOffset + at + CASE.patch, PATCH_BYTES).set(value.patch);
}

function decodeRegisters(view: DataView, at: number, offsets: typeof CASE | typeof RESULT): Registers {
  const selector = (i: number) => view.getUint16(at + offsets.selectors + i * 2, true);
  return {
    gpr: Array.from({ length: 16 }, (_, i) => view.getBigUint64(at + offsets.gpr + i * 8, true)),
    rflags: view.getBigUint64(at + offsets.rflags, true),
    rip: view.getBigUint64(at + offsets.rip, true),
    fsBase: view.getBigUint64(at + offsets.fsBase, true),
    gsBase: view.getBigUint64(at + offsets.gsBase, true),
    cs: selector(0),
    ss: selector(1),
    ds: selector(2),
    es: selector(3),
    fs: selector(4),
    gs: selector(5),
  };
}

/** The case whose 256 bytes begin at `at`. */
export function decodeCase(view: DataView, at: number): Case {
  return {
    ...decodeRegisters(view, at, CASE),
    patchAt: view.getUint32(at + CASE.patchAt, true),
    patch: new Uint8Array(view.buffer, view.byteOffset + at + CASE.patch, PATCH_BYTES).slice(),
  };
}

/** The result whose 256 bytes begin at `at`. */
export function decodeResult(view: DataView, at: number): Result {
  const changed = view.getUint32(at + RESULT.changed, true);
  return {
    ...decodeRegisters(view, at, RESULT),
    cr2: view.getBigUint64(at + RESULT.cr2, true),
    kind: view.getUint8(at + RESULT.kind),
    trapno: view.getUint8(at + RESULT.trapno),
    err: view.getUint16(at + RESULT.err, true),
    changed,
    hash: view.getInt32(at + RESULT.hash, true),
    words: Array.from({ length: Math.min(changed, RESULT_WORDS) }, (_, i) => ({
      index: view.getUint32(at + RESULT.words + i * 8, true),
      value: view.getUint32(at + RESULT.words + i * 8 + 4, true),
    })),
  };
}
