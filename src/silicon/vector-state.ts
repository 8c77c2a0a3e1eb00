/**
 * The x87, MMX, SSE and AVX registers of fuzz cases and results, as XSAVE lays them out in its standard format (SDM vol. 1
 * 10.5.1, 13.4): the 512 bytes of FXSAVE, the header, and the upper halves of the YMM registers.
 */
import type { State } from '../isa/state.ts';
import type { Difference } from './compare.ts';
import type { Random } from './random.ts';

/** Bytes of one image. */
export const IMAGE_BYTES = 832;

/** Offsets in an image. */
export const IMAGE = {
  fcw: 0,
  fsw: 2,
  /** One bit a physical register: not empty. */
  tags: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  /** ST0 to ST7, sixteen bytes each. */
  st: 32,
  xmm: 160,
  /** XSTATE_BV: which components are not in their initial state. */
  components: 512,
  ymmHigh: 576,
} as const;

/** x87, SSE and AVX state. */
const ALL_COMPONENTS = 7;
const MXCSR_INITIAL = 0x1f80;
const FCW_INITIAL = 0x37f;

/** What the image of state after initialization holds, but for the registers, which are zero. */
export function initialImage(): Uint8Array {
  const image = new Uint8Array(IMAGE_BYTES);
  const view = new DataView(image.buffer);
  view.setUint16(IMAGE.fcw, FCW_INITIAL, true);
  view.setUint32(IMAGE.mxcsr, MXCSR_INITIAL, true);
  return image;
}

/** Gives a processor the registers of an image. */
export function loadImage(cpu: State, view: DataView, at: number): void {
  cpu.fcw = view.getUint16(at + IMAGE.fcw, true);
  cpu.fsw = view.getUint16(at + IMAGE.fsw, true);
  const tags = view.getUint8(at + IMAGE.tags);
  let ftw = 0;
  for (let i = 0; i < 8; i++) if (((tags >> i) & 1) === 0) ftw |= 3 << (2 * i);
  cpu.ftw = ftw;
  cpu.fop = view.getUint16(at + IMAGE.fop, true);
  cpu.fip = view.getBigUint64(at + IMAGE.fip, true);
  cpu.fdp = view.getBigUint64(at + IMAGE.fdp, true);
  cpu.mxcsr = view.getUint32(at + IMAGE.mxcsr, true);
  const top = (cpu.fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const physical = (top + i) & 7;
    cpu.x87[2 * physical] = view.getBigUint64(at + IMAGE.st + 16 * i, true);
    cpu.x87[2 * physical + 1] = BigInt(view.getUint16(at + IMAGE.st + 16 * i + 8, true));
  }
  for (let i = 0; i < 16; i++)
    for (let half = 0; half < 2; half++) {
      cpu.ymm[4 * i + half] = view.getBigUint64(at + IMAGE.xmm + 16 * i + 8 * half, true);
      cpu.ymm[4 * i + 2 + half] = view.getBigUint64(at + IMAGE.ymmHigh + 16 * i + 8 * half, true);
    }
}

/** Writes a processor's registers to an image. */
export function storeImage(cpu: State, view: DataView, at: number): void {
  view.setUint16(at + IMAGE.fcw, cpu.fcw, true);
  view.setUint16(at + IMAGE.fsw, cpu.fsw, true);
  let tags = 0;
  for (let i = 0; i < 8; i++) if (((cpu.ftw >> (2 * i)) & 3) !== 3) tags |= 1 << i;
  view.setUint8(at + IMAGE.tags, tags);
  view.setUint16(at + IMAGE.fop, cpu.fop, true);
  view.setBigUint64(at + IMAGE.fip, cpu.fip, true);
  view.setBigUint64(at + IMAGE.fdp, cpu.fdp, true);
  view.setUint32(at + IMAGE.mxcsr, cpu.mxcsr, true);
  const top = (cpu.fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const physical = (top + i) & 7;
    view.setBigUint64(at + IMAGE.st + 16 * i, cpu.x87[2 * physical], true);
    view.setUint16(at + IMAGE.st + 16 * i + 8, Number(cpu.x87[2 * physical + 1] & 0xffffn), true);
  }
  for (let i = 0; i < 16; i++)
    for (let half = 0; half < 2; half++) {
      view.setBigUint64(at + IMAGE.xmm + 16 * i + 8 * half, cpu.ymm[4 * i + half], true);
      view.setBigUint64(at + IMAGE.ymmHigh + 16 * i + 8 * half, cpu.ymm[4 * i + 2 + half], true);
    }
}

/** What two images may differ in: their registers; not MXCSR_MASK, nor what is reserved or the header. */
const COMPARED: readonly (readonly [from: number, to: number])[] = [
  [0, 28],
  [IMAGE.st, IMAGE.xmm + 256],
  [IMAGE.ymmHigh, IMAGE_BYTES],
];

/** Whether the registers of two images agree; both at a multiple of four. */
export function imagesEqual(native: Int32Array, machine: Int32Array, at: number): boolean {
  const base = at / 4;
  for (const [from, to] of COMPARED)
    for (let i = base + from / 4; i < base + to / 4; i++) if (native[i] !== machine[i]) return false;
  return true;
}

/** The registers in which two images differ. */
export function imageDifferences(native: Uint8Array, machine: Uint8Array): Difference[] {
  const [a, b] = [native, machine].map((image) => new DataView(image.buffer, image.byteOffset));
  const found: Difference[] = [];
  const compare = (field: string, at: number, bytes: number) => {
    const read = (view: DataView) => {
      let value = 0n;
      for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at + i));
      return value;
    };
    if (read(a) !== read(b)) found.push({ field, native: read(a), machine: read(b) });
  };
  compare('fcw', IMAGE.fcw, 2);
  compare('fsw', IMAGE.fsw, 2);
  compare('x87 tags', IMAGE.tags, 2);
  compare('fop', IMAGE.fop, 2);
  compare('fip', IMAGE.fip, 8);
  compare('fdp', IMAGE.fdp, 8);
  compare('mxcsr', IMAGE.mxcsr, 4);
  for (let i = 0; i < 8; i++) compare(`st${i}`, IMAGE.st + 16 * i, 16);
  for (let i = 0; i < 16; i++) compare(`xmm${i}`, IMAGE.xmm + 16 * i, 16);
  for (let i = 0; i < 16; i++) compare(`ymm${i} above`, IMAGE.ymmHigh + 16 * i, 16);
  return found;
}

/** Lanes at which packed arithmetic changes its mind. */
const BYTES = [0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff];
const WORDS = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xff7f, 0xff80, 0xfffe, 0xffff];
const DOUBLEWORDS = [
  0, 1, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_7fff, 0xffff_8000, 0xffff_ffff,
];
/** Floating-point numbers of either size: zero, one, infinity, NaNs, denormals, by their upper halves. */
const REALS = [
  0x3f80_0000, 0x3ff0_0000, 0x7f80_0000, 0x7ff0_0000, 0x7fc0_0000, 0x7ff8_0000, 0x7f80_0001, 0x8000_0000,
  0x0000_0001, 0x0080_0000, 0x0010_0000,
];

/** Fills 16 bytes with what makes sense as packed integers, as text, or as numbers. */
function vectorContent(random: Random, view: DataView, at: number): void {
  const roll = random.below(100);
  for (let i = 0; i < 16; i += 4) view.setUint32(at + i, random.u32(), true);
  if (roll < 30) return;
  if (roll < 45) {
    // Text, with an end here or there.
    const letters = random.chance(0.5) ? [0, 0x61, 0x62, 0x63] : [0x61, 0x62, 0x63, 0x64, 0x80];
    const wide = random.chance(0.3) ? 2 : 1;
    for (let i = 0; i < 16; i += wide) {
      view.setUint8(at + i, random.pick(letters));
      if (wide === 2) view.setUint8(at + i + 1, random.chance(0.95) ? 0 : 1);
    }
  } else if (roll < 58) for (let i = 0; i < 16; i++) view.setUint8(at + i, random.pick(BYTES));
  else if (roll < 70) for (let i = 0; i < 16; i += 2) view.setUint16(at + i, random.pick(WORDS), true);
  else if (roll < 82) for (let i = 0; i < 16; i += 4) view.setUint32(at + i, random.pick(DOUBLEWORDS), true);
  else if (roll < 90) {
    // A count of shifts.
    view.setUint32(at, random.below(80), true);
    view.setUint32(at + 4, random.chance(0.1) ? 1 : 0, true);
  } else if (roll < 96)
    for (let i = 0; i < 16; i += 4)
      view.setUint32(at + i, (random.pick(REALS) | (random.u32() & 0x8000_0000)) >>> 0, true);
  else for (let i = 0; i < 16; i += 4) view.setUint32(at + i, 0, true);
}

/** An x87 register's content: numbers of a size, and each of the other classes; nearly always with the integer bit as it should be. */
function x87Content(random: Random, view: DataView, at: number): void {
  const exponent = random.pick([0, 0x7fff, 1, 0x7ffe, 0x3fff, 0x3fff, 0x3fff, 0x3fff, random.below(0x8000)]);
  const near = exponent === 0x3fff ? exponent + random.between(-70, 70) : exponent;
  const integer = near !== 0 && !random.chance(0.03) ? 0x8000_0000 : 0;
  const [low, high] = random.pick([
    [0, 0],
    [0, 0x4000_0000],
    [0xffff_ffff, 0x7fff_ffff],
    [1, 0],
    [0, random.u32()],
    [random.u32(), random.u32()],
  ]);
  view.setUint32(at, low, true);
  view.setUint32(at + 4, ((high & 0x7fff_ffff) | integer) >>> 0, true);
  view.setUint32(at + 8, near | (random.chance(0.5) ? 0x8000 : 0), true);
  view.setUint32(at + 12, 0, true);
}

/** The x87 state of a program that computes: rounding, precision and masks; registers that are mostly in use. */
function makeX87(random: Random, view: DataView, at: number): void {
  const masks = random.chance(0.7) ? 0x3f : random.below(0x40);
  view.setUint16(
    at + IMAGE.fcw,
    0x40 | masks | (random.pick([3, 3, 3, 2, 0, 1]) << 8) | (random.below(4) << 10),
    true,
  );
  const flags = random.chance(0.7) ? 0 : random.below(0x40) & masks;
  view.setUint16(at + IMAGE.fsw, flags | (random.below(8) << 11) | (random.u32() & 0x4700), true);
  view.setUint8(at + IMAGE.tags, random.pick([0xff, 0x7f, 0x0f, random.below(256)]));
  for (let i = 0; i < 8; i++) x87Content(random, view, at + IMAGE.st + 16 * i);
}

/**
 * Makes the image that a case starts with.
 * @param indices vector registers that hold indices of memory, of so many bits each
 */
export function makeImage(
  random: Random,
  view: DataView,
  at: number,
  indices: readonly { readonly register: number; readonly width: 32 | 64 }[] = [],
): void {
  new Uint8Array(view.buffer, view.byteOffset + at, IMAGE_BYTES).fill(0);
  view.setUint16(at + IMAGE.fcw, FCW_INITIAL, true);
  view.setUint16(at + IMAGE.fsw, (random.below(8) << 11) | (random.u32() & 0x4700), true);
  view.setUint8(at + IMAGE.tags, random.chance(0.5) ? 0 : random.chance(0.5) ? 0xff : random.below(256));
  view.setUint32(at + IMAGE.mxcsr, MXCSR_INITIAL, true);
  if (random.chance(0.01)) {
    // An invalid operation that is not masked waits to be reported.
    view.setUint16(at + IMAGE.fcw, FCW_INITIAL & ~1, true);
    view.setUint16(at + IMAGE.fsw, 0x8081 | (random.below(8) << 11), true);
  }
  for (let i = 0; i < 8; i++) {
    vectorContent(random, view, at + IMAGE.st + 16 * i);
    const exponent = random.chance(0.5) ? 0xffff : random.chance(0.5) ? 0x3fff : random.below(0x10000);
    view.setUint32(at + IMAGE.st + 16 * i + 8, exponent, true);
    view.setUint32(at + IMAGE.st + 16 * i + 12, 0, true);
  }
  if (random.chance(0.5)) makeX87(random, view, at);
  for (let i = 0; i < 16; i++) {
    vectorContent(random, view, at + IMAGE.xmm + 16 * i);
    vectorContent(random, view, at + IMAGE.ymmHigh + 16 * i);
  }
  // Equal operands, now and then.
  if (random.chance(0.3)) {
    const [from, to] = [random.below(8), random.below(8)];
    for (let i = 0; i < 16; i += 4)
      view.setUint32(
        at + IMAGE.xmm + 16 * to + i,
        view.getUint32(at + IMAGE.xmm + 16 * from + i, true),
        true,
      );
  }
  for (const { register, width } of indices) {
    if (random.chance(0.1)) continue;
    for (const half of [IMAGE.xmm, IMAGE.ymmHigh])
      for (let i = 0; i < 16; i += width / 8) {
        const index = random.chance(0.05) ? random.u32() | 0 : random.between(-40, 40);
        view.setInt32(at + half + 16 * register + i, index, true);
        if (width === 64) view.setInt32(at + half + 16 * register + i + 4, index >> 31, true);
      }
  }
  view.setUint32(at + IMAGE.components, ALL_COMPONENTS, true);
}
