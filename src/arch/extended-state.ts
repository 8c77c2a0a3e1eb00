/**
 * Saving and restoring x87, SSE, AVX and AMX state: FXSAVE, FXRSTOR, and the XSAVE feature set with its components, its compacted
 * format, XCR0 and extended-feature disable (XFD). SDM vol. 1 10.5 (FXSAVE, tables 10-2 to 10-4), chapter 13 (XSAVE); vol. 2A "FXSAVE", "FXRSTOR", vol. 2D
 * "XGETBV" to "XSETBV".
 *
 * Of its optimizations XSAVEOPT and XSAVES have the init optimization; what was not modified since the last XRSTOR it saves all the same. A
 * component is in use if it differs from its initial configuration. There are no supervisor state components, so that XSAVES and
 * XRSTORS are, at CPL 0, as XSAVEC and XRSTOR of the compacted format.
 */
import type { Instruction } from '../isa/instruction.ts';
import { RAX, RCX, RDX, SS } from '../isa/state.ts';
import { CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, requireCpl0 } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { AC, Fault, gp, NM, ud } from './fault.ts';
import type { Feature } from './features.ts';
import { alignmentChecked, isCanonical, notCanonical, segmentToLinear } from './linear.ts';
import { MXCSR_INITIAL, MXCSR_MASK, setMxcsr } from './mxcsr.ts';
import {
  CONFIG_BYTES,
  changeTiles,
  DATA_BYTES,
  INITIAL_TILES,
  isValidConfig,
  tilesInUse,
  XCR0_TILECFG,
  XCR0_TILEDATA,
} from './tile-state.ts';
import { requireEnabled } from './tiles.ts';
import { settleError } from './x87.ts';
import { type Place, place, probeBlock, readBlock, writeBlock } from './x87-memory.ts';
import {
  EMPTY,
  FCW_INITIAL,
  initialize,
  readPhysical,
  setControlWord,
  top,
  writePhysical,
} from './x87-stack.ts';

export const XCR0_X87 = 1n;
export const XCR0_SSE = 2n;
export const XCR0_AVX = 4n;
/** State components that a processor has. */
export function supportedComponents(cpu: Cpu): bigint {
  const extended = extendedComponents.filter(({ feature }) => cpu.has(feature));
  return extended.reduce((all, { bit }) => all | bit, XCR0_X87 | XCR0_SSE);
}

const LEGACY_BYTES = 512;
const HEADER_BYTES = 64;
/** The first extended component. */
const EXTENDED = LEGACY_BYTES + HEADER_BYTES;
const AVX_BYTES = 256;
const COMPACTED = 1n << 63n;
const XCR0_TILES = XCR0_TILECFG | XCR0_TILEDATA;

/** A component beyond the legacy region. */
export interface ExtendedComponent {
  readonly number: number;
  readonly bit: bigint;
  readonly feature: Feature;
  readonly bytes: number;
  /** Where it stands in the standard format. */
  readonly offset: number;
  /** It begins at a multiple of 64 in the compacted format. */
  readonly aligned: boolean;
  /** IA32_XFD can disable it. */
  readonly disableable: boolean;
}

/** In the order of the compacted format. Numbers, offsets and alignment are those of Intel's processors. */
export const extendedComponents: readonly ExtendedComponent[] = [
  {
    number: 2,
    bit: XCR0_AVX,
    feature: 'avx',
    bytes: AVX_BYTES,
    offset: EXTENDED,
    aligned: false,
    disableable: false,
  },
  {
    number: 17,
    bit: XCR0_TILECFG,
    feature: 'amx-tile',
    bytes: CONFIG_BYTES,
    offset: 2752,
    aligned: true,
    disableable: false,
  },
  {
    number: 18,
    bit: XCR0_TILEDATA,
    feature: 'amx-tile',
    bytes: DATA_BYTES,
    offset: 2816,
    aligned: true,
    disableable: true,
  },
];

/** Offsets in the legacy region. */
const MXCSR_AT = 24;
const REGISTERS_AT = 32;
const XMM_AT = 160;

/** Bytes of an XSAVE area of the standard format for `components`. */
export function areaBytes(components: bigint): number {
  let end = EXTENDED;
  for (const { bit, bytes, offset } of extendedComponents) if (components & bit) end = offset + bytes;
  return end;
}

/** Where an extended component stands in the compacted format of an area for `components`, or where the area ends. */
function compactedOffset(components: bigint, component?: ExtendedComponent): number {
  let at = EXTENDED;
  for (const one of extendedComponents) {
    if (!(components & one.bit)) continue;
    if (one.aligned) at = (at + 63) & -64;
    if (one === component) return at;
    at += one.bytes;
  }
  return at;
}

/** Bytes of an XSAVE area of the compacted format for `components`. */
export const compactedBytes = (components: bigint): number => compactedOffset(components);

/** XMM registers that can be named. */
function vectorRegisters(cpu: Cpu): number {
  return cpu.mode64 ? 16 : 8;
}

function requireXsave(cpu: Cpu): void {
  if ((cpu.cr4 & CR4_OSXSAVE) === 0n) throw ud();
}

function checkIndex(cpu: Cpu, last: bigint): number {
  const index = cpu.gpr[RCX] & 0xffff_ffffn;
  if (index > last) throw gp();
  return Number(index);
}

/** XGETBV: XCR0, or with ECX = 1 which of its components are in use. */
export const xgetbv: SystemInstruction = (cpu) => {
  requireXsave(cpu);
  const value = checkIndex(cpu, cpu.has('xgetbv1') ? 1n : 0n) === 0 ? cpu.xcr0 : cpu.xcr0 & inUse(cpu);
  cpu.gpr[RAX] = value & 0xffff_ffffn;
  cpu.gpr[RDX] = value >> 32n;
};

function edxEax(cpu: Cpu): bigint {
  return ((cpu.gpr[RDX] & 0xffff_ffffn) << 32n) | (cpu.gpr[RAX] & 0xffff_ffffn);
}

export const xsetbv: SystemInstruction = (cpu) => {
  requireXsave(cpu);
  requireCpl0(cpu);
  checkIndex(cpu, 0n);
  const value = edxEax(cpu);
  if (value & ~supportedComponents(cpu) || (value & XCR0_X87) === 0n) throw gp();
  if (value & XCR0_AVX && (value & XCR0_SSE) === 0n) throw gp();
  if (value & XCR0_TILES && (value & XCR0_TILES) !== XCR0_TILES) throw gp();
  cpu.xcr0 = value;
};

/** Components that are not in their initial configurations (XINUSE). */
function inUse(cpu: Cpu): bigint {
  let components = 0n;
  const x87 =
    cpu.fcw !== FCW_INITIAL ||
    cpu.fsw !== 0 ||
    cpu.ftw !== 0xffff ||
    cpu.fop !== 0 ||
    cpu.fip !== 0n ||
    cpu.fdp !== 0n;
  if (x87 || cpu.x87.some((quadword) => quadword !== 0n)) components |= XCR0_X87;
  for (let i = 0; i < 4 * vectorRegisters(cpu); i++) {
    if (cpu.ymm[i] !== 0n) components |= i & 2 ? XCR0_AVX : XCR0_SSE;
  }
  return components | tilesInUse(cpu.tiles);
}

/** A bit for each register that is not empty: the abridged tag word (SDM vol. 1 10.5.1.1). */
function abridgedTags(cpu: Cpu): number {
  let tags = 0;
  for (let n = 0; n < 8; n++) if (((cpu.ftw >> (2 * n)) & 3) !== EMPTY) tags |= 1 << n;
  return tags;
}

/** The x87 part of the legacy region: bytes 0 to 23 and 32 to 159. `wide`: FIP and FDP of 64 bits (REX.W). */
function putX87(cpu: Cpu, view: DataView, wide: boolean): void {
  view.setUint16(0, cpu.fcw, true);
  view.setUint16(2, cpu.fsw, true);
  view.setUint16(4, abridgedTags(cpu), true);
  view.setUint16(6, cpu.fop, true);
  view.setBigUint64(8, wide ? cpu.fip : cpu.fip & 0xffff_ffffn, true);
  view.setBigUint64(16, wide ? cpu.fdp : cpu.fdp & 0xffff_ffffn, true);
  const first = top(cpu);
  for (let i = 0; i < 8; i++) {
    const value = readPhysical(cpu, (first + i) & 7);
    view.setBigUint64(REGISTERS_AT + 16 * i, BigInt.asUintN(64, value), true);
    view.setBigUint64(REGISTERS_AT + 16 * i + 8, value >> 64n, true);
  }
}

function takeX87(cpu: Cpu, view: DataView, wide: boolean): void {
  cpu.fsw = view.getUint16(2, true);
  setControlWord(cpu, view.getUint16(0, true));
  const tags = view.getUint8(4);
  let word = 0;
  for (let n = 0; n < 8; n++) if (((tags >> n) & 1) === 0) word |= EMPTY << (2 * n);
  cpu.ftw = word;
  cpu.fop = view.getUint16(6, true) & 0x7ff;
  cpu.fip = wide ? view.getBigUint64(8, true) : BigInt(view.getUint32(8, true));
  cpu.fdp = wide ? view.getBigUint64(16, true) : BigInt(view.getUint32(16, true));
  const first = top(cpu);
  for (let i = 0; i < 8; i++) {
    const at = REGISTERS_AT + 16 * i;
    const bits = (BigInt(view.getUint16(at + 8, true)) << 64n) | view.getBigUint64(at, true);
    writePhysical(cpu, (first + i) & 7, bits);
  }
}

/** The lower halves of the vector registers, at 160. */
function putXmm(cpu: Cpu, view: DataView): void {
  for (let n = 0; n < vectorRegisters(cpu); n++) {
    view.setBigUint64(XMM_AT + 16 * n, cpu.ymm[4 * n], true);
    view.setBigUint64(XMM_AT + 16 * n + 8, cpu.ymm[4 * n + 1], true);
  }
}

function takeXmm(cpu: Cpu, view: DataView): void {
  for (let n = 0; n < vectorRegisters(cpu); n++) {
    cpu.ymm[4 * n] = view.getBigUint64(XMM_AT + 16 * n, true);
    cpu.ymm[4 * n + 1] = view.getBigUint64(XMM_AT + 16 * n + 8, true);
  }
}

function putMxcsr(cpu: Cpu, view: DataView): void {
  view.setUint32(MXCSR_AT, cpu.mxcsr, true);
  view.setUint32(MXCSR_AT + 4, MXCSR_MASK, true);
}

/**
 * Where the area stands, which must be at a multiple of `alignment`: else #GP(0), or #AC where that is armed and the area is
 * not at a multiple of 4 either. Before alignment goes that its first byte is canonical, and after it other bytes that are not,
 * and page faults. The segment's limit goes before where the area is of the XSAVE feature set, and after where it is of FXSAVE
 * (measured; the manual leaves open when it is #AC).
 */
function area(cpu: Cpu, instruction: Instruction, alignment: 16 | 64): Place {
  const where = place(cpu, instruction);
  const base = cpu.mode64 && where.segment < 4 ? 0n : cpu.segBase[where.segment];
  const linear = BigInt.asUintN(64, where.offset + base);
  if (cpu.mode64 && !isCanonical(linear)) throw notCanonical(cpu, linear, false, where.segment === SS);
  if (alignment === 64) segmentToLinear(cpu, where.segment, where.offset, 4, false);
  if (linear & 3n && alignmentChecked(cpu)) throw new Fault(AC, 0);
  if (linear & BigInt(alignment - 1)) throw gp();
  return where;
}

function requireFpu(cpu: Cpu): void {
  if (cpu.cr0 & (CR0_EM | CR0_TS)) throw new Fault(NM);
}

const isWide = (instruction: Instruction): boolean => instruction.operandSize === 64;

/** Bytes of an FXSAVE image that are written: those after the vector registers are software's. */
const FXSAVE_BYTES = 416;

/** FXSAVE; XMM registers and MXCSR only where CR4.OSFXSR is set. */
export const fxsave: SystemInstruction = (cpu, instruction) => {
  requireFpu(cpu);
  const where = area(cpu, instruction, 16);
  const view = new DataView(new ArrayBuffer(LEGACY_BYTES));
  const vectors = (cpu.cr4 & CR4_OSFXSR) !== 0n;
  const bytes = vectors && cpu.mode64 ? FXSAVE_BYTES : vectors ? XMM_AT + 128 : XMM_AT;
  probeBlock(cpu, instruction, where, 0, LEGACY_BYTES);
  putX87(cpu, view, isWide(instruction));
  putMxcsr(cpu, view);
  if (vectors) putXmm(cpu, view);
  writeBlock(cpu, instruction, where, 0, bytes, view);
};

export const fxrstor: SystemInstruction = (cpu, instruction) => {
  requireFpu(cpu);
  const where = area(cpu, instruction, 16);
  const view = readBlock(cpu, instruction, where, 0, LEGACY_BYTES);
  if (cpu.cr4 & CR4_OSFXSR) {
    setMxcsr(cpu, view.getUint32(MXCSR_AT, true));
    takeXmm(cpu, view);
  }
  takeX87(cpu, view, isWide(instruction));
  settleError(cpu);
};

/** What every instruction of the feature set asks for first; the requested components. */
function prepare(cpu: Cpu): bigint {
  requireXsave(cpu);
  if (cpu.cr0 & CR0_TS) throw new Fault(NM);
  return cpu.xcr0 & edxEax(cpu);
}

/** The upper halves of the vector registers. */
function putAvx(cpu: Cpu): DataView {
  const view = new DataView(new ArrayBuffer(AVX_BYTES));
  for (let n = 0; n < vectorRegisters(cpu); n++) {
    view.setBigUint64(16 * n, cpu.ymm[4 * n + 2], true);
    view.setBigUint64(16 * n + 8, cpu.ymm[4 * n + 3], true);
  }
  return view;
}

/** Bytes of an extended component as it stands in an area; those that are written. Disabled ones are as if they were initial. */
function putExtended(cpu: Cpu, { bit }: ExtendedComponent): { view: DataView; bytes: number } {
  if (bit === XCR0_AVX) return { view: putAvx(cpu), bytes: 16 * vectorRegisters(cpu) };
  const state = cpu.tiles.xfd & bit ? INITIAL_TILES : cpu.tiles;
  const bytes = bit === XCR0_TILECFG ? state.config : state.data;
  return { view: new DataView(bytes.buffer), bytes: bytes.length };
}

/** Faults as saving `components` would; `at` is where each extended one stands. */
function probeArea(
  cpu: Cpu,
  instruction: Instruction,
  where: Place,
  components: bigint,
  at: (component: ExtendedComponent) => number,
): void {
  probeBlock(cpu, instruction, where, 0, EXTENDED);
  for (const component of extendedComponents) {
    if (!(components & component.bit)) continue;
    // All of each page or none can be written, and areas are aligned: a few places are enough.
    const from = at(component);
    for (let i = 0; i < component.bytes; i += 2048) probeBlock(cpu, instruction, where, from + i, 8);
    probeBlock(cpu, instruction, where, from + component.bytes - 8, 8);
  }
}

/**
 * Saves `components`, the extended ones at `at`; MXCSR where `withMxcsr`. What may fault has been probed.
 */
function saveComponents(
  cpu: Cpu,
  instruction: Instruction,
  where: Place,
  components: bigint,
  withMxcsr: boolean,
  at: (component: ExtendedComponent) => number,
): void {
  const view = new DataView(new ArrayBuffer(LEGACY_BYTES));
  if (components & XCR0_X87) {
    putX87(cpu, view, isWide(instruction));
    writeBlock(cpu, instruction, where, 0, MXCSR_AT, view);
    writeBlock(cpu, instruction, where, REGISTERS_AT, 128, slice(view, REGISTERS_AT));
  }
  if (withMxcsr) {
    putMxcsr(cpu, view);
    writeBlock(cpu, instruction, where, MXCSR_AT, 8, slice(view, MXCSR_AT));
  }
  if (components & XCR0_SSE) {
    putXmm(cpu, view);
    writeBlock(cpu, instruction, where, XMM_AT, 16 * vectorRegisters(cpu), slice(view, XMM_AT));
  }
  for (const component of extendedComponents) {
    if (!(components & component.bit)) continue;
    const { view: content, bytes } = putExtended(cpu, component);
    writeBlock(cpu, instruction, where, at(component), bytes, content);
  }
}

function slice(view: DataView, from: number): DataView {
  return new DataView(view.buffer, from);
}

function quadwords(...values: bigint[]): DataView {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, i) => {
    view.setBigUint64(8 * i, value, true);
  });
  return view;
}

/** XSAVE and XSAVEOPT, in the standard format. */
function save(cpu: Cpu, instruction: Instruction, optimize: boolean): void {
  const requested = prepare(cpu);
  const where = area(cpu, instruction, 64);
  const at = ({ offset }: ExtendedComponent): number => offset;
  probeArea(cpu, instruction, where, requested, at);
  const used = inUse(cpu) & requested & ~cpu.tiles.xfd;
  const old = readBlock(cpu, instruction, where, LEGACY_BYTES, 8).getBigUint64(0, true);
  const withMxcsr = (requested & (XCR0_SSE | XCR0_AVX)) !== 0n;
  saveComponents(cpu, instruction, where, optimize ? used : requested, withMxcsr, at);
  writeBlock(cpu, instruction, where, LEGACY_BYTES, 8, quadwords((old & ~requested) | used));
}

export const xsave: SystemInstruction = (cpu, instruction) => save(cpu, instruction, false);
export const xsaveopt: SystemInstruction = (cpu, instruction) => save(cpu, instruction, true);

/** XSAVEC: the compacted format, and components in use only. */
export const xsavec: SystemInstruction = (cpu, instruction) => {
  const requested = prepare(cpu);
  const where = area(cpu, instruction, 64);
  const at = (component: ExtendedComponent): number => compactedOffset(requested, component);
  probeArea(cpu, instruction, where, requested, at);
  let used = inUse(cpu) & requested & ~cpu.tiles.xfd;
  if (requested & XCR0_SSE && cpu.mxcsr !== MXCSR_INITIAL) used |= XCR0_SSE;
  saveComponents(cpu, instruction, where, used, (used & XCR0_SSE) !== 0n, at);
  writeBlock(cpu, instruction, where, LEGACY_BYTES, 16, quadwords(used, COMPACTED | requested));
};

/** XSAVES: XSAVEC at CPL 0. */
export const xsaves: SystemInstruction = (cpu, instruction) => {
  requireXsave(cpu);
  requireCpl0(cpu);
  xsavec(cpu, instruction);
};

/** XRSTORS: XRSTOR at CPL 0, of the compacted format; #GP(0) for the other. */
export const xrstors: SystemInstruction = (cpu, instruction) => {
  requireXsave(cpu);
  requireCpl0(cpu);
  restore(cpu, instruction, true);
};

/** Bytes of an extended component of an area at `from`. */
function readComponent(
  cpu: Cpu,
  instruction: Instruction,
  where: Place,
  from: number,
  bytes: number,
): Uint8Array {
  return new Uint8Array(readBlock(cpu, instruction, where, from, bytes).buffer);
}

/**
 * XRSTOR, of either format: a requested component is loaded where the header says that it is there, and else initialized.
 * Raises #GP(0) for a header or an MXCSR with bits that must be 0. A configuration of tiles that is not possible is none (measured).
 */
export const xrstor: SystemInstruction = (cpu, instruction) => restore(cpu, instruction, false);

function restore(cpu: Cpu, instruction: Instruction, onlyCompacted: boolean): void {
  const requested = prepare(cpu);
  const where = area(cpu, instruction, 64);
  const header = readBlock(cpu, instruction, where, LEGACY_BYTES, HEADER_BYTES);
  const present = header.getBigUint64(0, true);
  const format = header.getBigUint64(8, true);
  const compacted = (format & COMPACTED) !== 0n;
  const permitted = compacted ? format & ~COMPACTED : cpu.xcr0;
  if (permitted & ~cpu.xcr0 || present & ~permitted || (!compacted && (onlyCompacted || format !== 0n)))
    throw gp();
  for (let at = 16; at < (compacted ? HEADER_BYTES : 24); at += 8) {
    if (header.getBigUint64(at, true) !== 0n) throw gp();
  }
  const loaded = requested & present;
  // The header goes before, and MXCSR after (measured).
  requireEnabled(cpu, loaded);
  const legacy = readBlock(cpu, instruction, where, 0, LEGACY_BYTES);
  const read = (component: ExtendedComponent): Uint8Array | undefined => {
    if (!(loaded & component.bit)) return undefined;
    const from = compacted ? compactedOffset(permitted, component) : component.offset;
    return readComponent(cpu, instruction, where, from, component.bytes);
  };
  const [avx, config, data] = extendedComponents.map(read);
  const extended = avx && new DataView(avx.buffer);

  if (!compacted && requested & (XCR0_SSE | XCR0_AVX)) setMxcsr(cpu, legacy.getUint32(MXCSR_AT, true));
  if (loaded & XCR0_X87) takeX87(cpu, legacy, isWide(instruction));
  else if (requested & XCR0_X87) {
    initialize(cpu);
    cpu.x87.fill(0n);
  }
  settleError(cpu);
  if (loaded & XCR0_SSE) takeXmm(cpu, legacy);
  for (let n = 0; n < vectorRegisters(cpu); n++) {
    if (requested & ~loaded & XCR0_SSE) cpu.ymm.fill(0n, 4 * n, 4 * n + 2);
    if (!(requested & XCR0_AVX)) continue;
    cpu.ymm[4 * n + 2] = extended?.getBigUint64(16 * n, true) ?? 0n;
    cpu.ymm[4 * n + 3] = extended?.getBigUint64(16 * n + 8, true) ?? 0n;
  }
  if (requested & XCR0_TILES) {
    changeTiles(cpu, {
      ...(requested & XCR0_TILECFG
        ? { config: config && isValidConfig(config) ? config : INITIAL_TILES.config }
        : {}),
      ...(requested & XCR0_TILEDATA ? { data: data ?? INITIAL_TILES.data } : {}),
    });
  }
  if (!compacted) return;
  // In this format a bad MXCSR is found when all else has been loaded (measured).
  if (loaded & XCR0_SSE) setMxcsr(cpu, legacy.getUint32(MXCSR_AT, true));
  else if (requested & XCR0_SSE) cpu.mxcsr = MXCSR_INITIAL;
}
