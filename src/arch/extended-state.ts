/**
 * Saving and restoring x87, SSE and AVX state: FXSAVE, FXRSTOR, and the XSAVE feature set with its components, its compacted
 * format and XCR0. SDM vol. 1 10.5 (FXSAVE, tables 10-2 to 10-4), chapter 13 (XSAVE); vol. 2A "FXSAVE", "FXRSTOR", vol. 2D
 * "XGETBV" to "XSETBV".
 *
 * Of its optimizations XSAVEOPT has the init optimization; what was not modified since the last XRSTOR it saves all the same. A
 * component is in use if it differs from its initial configuration.
 */
import type { Instruction } from '../isa/instruction.ts';
import { RAX, RCX, RDX, SS } from '../isa/state.ts';
import { CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, requireCpl0 } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { AC, Fault, gp, NM, ud } from './fault.ts';
import { alignmentChecked, isCanonical, notCanonical, segmentToLinear } from './linear.ts';
import { MXCSR_INITIAL, MXCSR_MASK, setMxcsr } from './mxcsr.ts';
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
  return XCR0_X87 | XCR0_SSE | (cpu.has('avx') ? XCR0_AVX : 0n);
}

const LEGACY_BYTES = 512;
const HEADER_BYTES = 64;
/** The first extended component. */
const EXTENDED = LEGACY_BYTES + HEADER_BYTES;
const AVX_BYTES = 256;
const COMPACTED = 1n << 63n;

/** Offsets in the legacy region. */
const MXCSR_AT = 24;
const REGISTERS_AT = 32;
const XMM_AT = 160;

/** Bytes of an XSAVE area for `components`; AVX is the only one beyond the header. */
export function areaBytes(components: bigint): number {
  return components & XCR0_AVX ? EXTENDED + AVX_BYTES : EXTENDED;
}

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
  return components;
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

/** Where the upper halves of the vector registers are in an area, standard or compacted: nothing else can be there. */
function putAvx(cpu: Cpu): DataView {
  const view = new DataView(new ArrayBuffer(AVX_BYTES));
  for (let n = 0; n < vectorRegisters(cpu); n++) {
    view.setBigUint64(16 * n, cpu.ymm[4 * n + 2], true);
    view.setBigUint64(16 * n + 8, cpu.ymm[4 * n + 3], true);
  }
  return view;
}

/**
 * Saves `components`; MXCSR where `withMxcsr`. What may fault has been probed.
 */
function saveComponents(
  cpu: Cpu,
  instruction: Instruction,
  where: Place,
  components: bigint,
  withMxcsr: boolean,
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
  if (components & XCR0_AVX) {
    writeBlock(cpu, instruction, where, EXTENDED, 16 * vectorRegisters(cpu), putAvx(cpu));
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
  probeBlock(cpu, instruction, where, 0, areaBytes(requested));
  const used = inUse(cpu) & requested;
  const old = readBlock(cpu, instruction, where, LEGACY_BYTES, 8).getBigUint64(0, true);
  const withMxcsr = (requested & (XCR0_SSE | XCR0_AVX)) !== 0n;
  saveComponents(cpu, instruction, where, optimize ? used : requested, withMxcsr);
  writeBlock(cpu, instruction, where, LEGACY_BYTES, 8, quadwords((old & ~requested) | used));
}

export const xsave: SystemInstruction = (cpu, instruction) => save(cpu, instruction, false);
export const xsaveopt: SystemInstruction = (cpu, instruction) => save(cpu, instruction, true);

/** XSAVEC: the compacted format, and components in use only. */
export const xsavec: SystemInstruction = (cpu, instruction) => {
  const requested = prepare(cpu);
  const where = area(cpu, instruction, 64);
  probeBlock(cpu, instruction, where, 0, areaBytes(requested));
  let used = inUse(cpu) & requested;
  if (requested & XCR0_SSE && cpu.mxcsr !== MXCSR_INITIAL) used |= XCR0_SSE;
  saveComponents(cpu, instruction, where, used, (used & XCR0_SSE) !== 0n);
  writeBlock(cpu, instruction, where, LEGACY_BYTES, 16, quadwords(used, COMPACTED | requested));
};

/**
 * XRSTOR, of either format: a requested component is loaded where the header says that it is there, and else initialized.
 * Raises #GP(0) for a header or an MXCSR with bits that must be 0.
 */
export const xrstor: SystemInstruction = (cpu, instruction) => {
  const requested = prepare(cpu);
  const where = area(cpu, instruction, 64);
  const header = readBlock(cpu, instruction, where, LEGACY_BYTES, HEADER_BYTES);
  const present = header.getBigUint64(0, true);
  const format = header.getBigUint64(8, true);
  const compacted = (format & COMPACTED) !== 0n;
  const permitted = compacted ? format & ~COMPACTED : cpu.xcr0;
  if (permitted & ~cpu.xcr0 || present & ~permitted || (!compacted && format !== 0n)) throw gp();
  for (let at = 16; at < (compacted ? HEADER_BYTES : 24); at += 8) {
    if (header.getBigUint64(at, true) !== 0n) throw gp();
  }
  const loaded = requested & present;
  const legacy = readBlock(cpu, instruction, where, 0, LEGACY_BYTES);
  const extended = loaded & XCR0_AVX ? readBlock(cpu, instruction, where, EXTENDED, AVX_BYTES) : undefined;

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
  if (!compacted) return;
  // In this format a bad MXCSR is found when all else has been loaded (measured).
  if (loaded & XCR0_SSE) setMxcsr(cpu, legacy.getUint32(MXCSR_AT, true));
  else if (requested & XCR0_SSE) cpu.mxcsr = MXCSR_INITIAL;
};
