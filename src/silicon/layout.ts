/**
 * The world in which a fuzz case runs, the same natively and on the machine: a code region, scratch memory
 * with guard pages around it, and an LDT with every kind of segment that modify_ldt can make. All of it lies
 * below 4 GiB, where compatibility mode reaches; the native harness lies above, where it does not.
 */
import { USER_CS, USER_DS, USER32_CS, type UserDescriptor } from './linux-abi.ts';

/** Code: slots of one program each, readable and executable, unmapped on both sides. */
export const CODE = 0x400000;
export const SLOT_BYTES = 128;
export const SLOTS = 255;
export const CODE_BYTES = 0x8000;

/** Offset of a slot in the code region: half a slot off, so that some slots lie across two pages. */
export function slotOffset(slot: number): number {
  return SLOT_BYTES / 2 + slot * SLOT_BYTES;
}

/** Scratch: two pages that may be written, then one that may only be read, unmapped on both sides. */
export const SCRATCH = 0x510000;
export const SCRATCH_BYTES = 0x2000;
/** The second page may be executed as well: programs that change themselves stand there. */
export const CHANGEABLE_CODE = SCRATCH + 0x1000;
export const READ_ONLY = SCRATCH + SCRATCH_BYTES;
export const READ_ONLY_BYTES = 0x1000;
/** All of the data that a case can see. */
export const DATA_BYTES = SCRATCH_BYTES + READ_ONLY_BYTES;

/** ESP[31:16] on entry where SS is a 16-bit segment, whose SP alone IRET loads. */
export const STACK_HIGH = SCRATCH >>> 16;

const FLAT = { base: 0, limit: 0xfffff, pages: true } as const;

/** The LDT, entry by entry. */
export const LDT: readonly (UserDescriptor | undefined)[] = [
  { ...FLAT, bits32: false, type: 'data' }, // 07
  { ...FLAT, bits32: true, type: 'data' }, // 0f
  { ...FLAT, bits32: false, type: 'code' }, // 17
  { ...FLAT, bits32: true, type: 'code' }, // 1f
  { base: CODE, limit: 0xffff, bits32: false, type: 'code' }, // 27
  { base: CODE, limit: slotOffset(SLOTS - 2) + 23, bits32: true, type: 'code' }, // 2f
  { base: SCRATCH, limit: 0x17ff, bits32: true, type: 'data' }, // 37
  { base: SCRATCH, limit: 0xffff, bits32: false, type: 'data' }, // 3f
  { base: 0, limit: SCRATCH >>> 12, pages: true, bits32: true, type: 'expand-down' }, // 47
  { base: SCRATCH, limit: 0x7ff, bits32: false, type: 'expand-down' }, // 4f
  { ...FLAT, bits32: true, type: 'data', restricted: true }, // 57
  { ...FLAT, bits32: true, type: 'code', restricted: true }, // 5f
  { ...FLAT, bits32: true, type: 'data', absent: true }, // 67
  { ...FLAT, bits32: true, type: 'code', absent: true }, // 6f
  { ...FLAT, bits32: true, type: 'conforming', absent: true }, // 77
  undefined, // 7f: a null descriptor
  { base: SCRATCH - 0x10000, limit: 0x1ffff, bits32: true, type: 'data' }, // 87
  { base: SCRATCH + 0x10, limit: 0x1fef, bits32: true, type: 'expand-down', restricted: true }, // 8f
  { base: CODE - 0x1000, limit: 0x10, pages: true, bits32: true, type: 'code' }, // 97
];

/** LDT selector of an entry, RPL 3. */
export function ldtSelector(entry: number): number {
  return (entry << 3) | 7;
}

/** Base of the segment that a selector names, as far as a case's code can know it. */
export function baseOf(selector: number): number {
  return selector & 4 ? (LDT[selector >> 3]?.base ?? 0) : 0;
}

/** Whether a selector names a 32-bit (B or D set) segment; the flat ones do. */
export function isBits32(selector: number): boolean {
  return selector & 4 ? (LDT[selector >> 3]?.bits32 ?? true) : true;
}

/** A segment that a case may start with. */
export interface StartSegment {
  readonly selector: number;
  readonly base: number;
  readonly bits: 16 | 32 | 64;
}

function ldtSegment(entry: number): StartSegment {
  const descriptor = LDT[entry];
  if (!descriptor) throw new RangeError(`LDT entry ${entry} is null`);
  return { selector: ldtSelector(entry), base: descriptor.base, bits: descriptor.bits32 ? 32 : 16 };
}

/** Code segments by code size. */
export const CODE_SEGMENTS: Readonly<Record<16 | 32 | 64, readonly StartSegment[]>> = {
  64: [{ selector: USER_CS, base: 0, bits: 64 }],
  32: [
    { selector: USER32_CS, base: 0, bits: 32 },
    { selector: USER32_CS, base: 0, bits: 32 },
    ldtSegment(3),
    ldtSegment(5),
    ldtSegment(11),
    ldtSegment(18),
  ],
  16: [ldtSegment(2), ldtSegment(4), ldtSegment(4)],
};

const FLAT_DATA: StartSegment = { selector: USER_DS, base: 0, bits: 32 };

/** Stack segments. */
export const STACK_SEGMENTS: readonly StartSegment[] = [
  FLAT_DATA,
  ldtSegment(0),
  ldtSegment(1),
  ldtSegment(6),
  ldtSegment(7),
  ldtSegment(8),
  ldtSegment(9),
  ldtSegment(16),
];

/** Data segments (read-only and execute-only ones as well). */
export const DATA_SEGMENTS: readonly StartSegment[] = [
  FLAT_DATA,
  FLAT_DATA,
  ldtSegment(1),
  ldtSegment(6),
  ldtSegment(7),
  ldtSegment(7),
  ldtSegment(8),
  ldtSegment(9),
  ldtSegment(10),
  ldtSegment(16),
  ldtSegment(17),
  ldtSegment(3),
];

/** Selectors with which instructions may be tried: good, absent, null, beyond the tables, privileged. */
export const SELECTORS: readonly number[] = [
  0,
  1,
  2,
  3,
  0x08,
  0x0b,
  0x10,
  0x13,
  0x18,
  0x1b,
  0x20,
  0x23,
  0x28,
  0x29,
  0x2b,
  0x30,
  0x33,
  0x38,
  0x3b,
  0x40,
  0x43,
  0x48,
  0x50,
  0x53,
  0x60,
  0x63,
  0x73,
  0x80,
  0x83,
  0xfffb,
  0xffff,
  0x04,
  0x05,
  0x06,
  ...LDT.map((_, entry) => ldtSelector(entry)),
  ldtSelector(LDT.length),
  ldtSelector(0) & ~3,
  ldtSelector(3) & ~1,
];
