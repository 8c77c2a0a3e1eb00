/**
 * What the engine must know of the processor's mode: the context of decoded code and which fast TLB to use.
 * Derived anew after every system instruction and every delivery, so that nothing else need think of it.
 */
import {
  CONTEXT_CODE_32,
  CONTEXT_CODE_64,
  CONTEXT_EM,
  CONTEXT_FLAT,
  CONTEXT_LIMITED,
  CONTEXT_NO_AVX,
  CONTEXT_NO_FXSR,
  CONTEXT_REAL,
  CONTEXT_STACK_32,
  CONTEXT_TS,
  CONTEXT_USER,
} from '../engine/interpreter/context.ts';
import type { Interpreter } from '../engine/interpreter/interpreter.ts';
import { FAST_FETCH, FAST_READ, FAST_WRITE, fastTlbOffset } from '../engine/layout.ts';
import { AC } from '../isa/flags.ts';
import { CS, DS, ES, offsetOf, SS } from '../isa/state.ts';
import type { Cpu } from './cpu.ts';
import { ATTRIBUTE_DB } from './descriptors.ts';
import { type Access, alignmentChecked, atCpl } from './linear.ts';
import { currentPcid } from './paging.ts';

/** Contexts with fast TLBs of their own (engine/layout.ts). */
const TLB_USER = 0;
const TLB_SUPERVISOR = 1;
const TLB_SUPERVISOR_AC = 2;
export const TLB_NONE = 3;

const CR4_SMAP = 1 << 21;
/** In the low halves of CR0 and CR4. */
const CR0_EM = 1 << 2;
const CR0_TS = 1 << 3;
const CR4_OSFXSR = 1 << 9;
const CR4_OSXSAVE = 1 << 18;
/** SSE and AVX state. */
const XCR0_VECTORS = 6;
const CR0 = offsetOf('cr0') / 4;
const CR4 = offsetOf('cr4') / 4;
const XCR0 = offsetOf('xcr0') / 4;
const FLAGS = offsetOf('flagsRest') / 4;
const AC_BIT = Number(AC);
const SEGMENT_BASE = offsetOf('segBase') / 4;

/** The fast TLB that serves an access: by its privilege, and by RFLAGS.AC where SMAP looks at it. */
export function tlbContext(cpu: Cpu, access: Access): number {
  if (access.user) return alignmentChecked(cpu) ? TLB_NONE : TLB_USER;
  if (!access.implicit && (cpu.u32[CR4] & CR4_SMAP) !== 0 && (cpu.u32[FLAGS] & AC_BIT) !== 0)
    return TLB_SUPERVISOR_AC;
  return TLB_SUPERVISOR;
}

/** Every offset in the segment may be read and written, and is a linear address. */
function isFlat(cpu: Cpu, segment: typeof DS | typeof ES | typeof SS): boolean {
  const base = SEGMENT_BASE + 2 * segment;
  return (
    cpu.segWriteHigh[segment] === 0xffff_ffff &&
    cpu.segReadHigh[segment] === 0xffff_ffff &&
    (cpu.segWriteLow[segment] | cpu.segReadLow[segment] | cpu.u32[base] | cpu.u32[base + 1]) === 0
  );
}

/** Sets `context`, `codeBase`, `tlbRead`, `tlbWrite` and `tlbFetch` from the architectural state. */
export function updateContext(cpu: Cpu, interpreter: Interpreter): void {
  let bits = cpu.cpl === 3 ? CONTEXT_USER : 0;
  if (cpu.mode64) {
    bits |= CONTEXT_CODE_64;
    cpu.codeBase = 0n;
  } else {
    if (cpu.segAttributes[CS] & ATTRIBUTE_DB) bits |= CONTEXT_CODE_32;
    if (cpu.segAttributes[SS] & ATTRIBUTE_DB) bits |= CONTEXT_STACK_32;
    if (cpu.segLimit[CS] !== 0xffff_ffff) bits |= CONTEXT_LIMITED;
    if (cpu.realAddressing) bits |= CONTEXT_REAL;
    if (isFlat(cpu, DS) && isFlat(cpu, ES) && isFlat(cpu, SS)) bits |= CONTEXT_FLAT;
    cpu.codeBase = cpu.segBase[CS];
  }
  const cr0 = cpu.u32[CR0];
  if (cr0 & CR0_EM) bits |= CONTEXT_EM;
  if (cr0 & CR0_TS) bits |= CONTEXT_TS;
  const cr4 = cpu.u32[CR4];
  if ((cr4 & CR4_OSFXSR) === 0) bits |= CONTEXT_NO_FXSR;
  if ((cr4 & CR4_OSXSAVE) === 0 || (cpu.u32[XCR0] & XCR0_VECTORS) !== XCR0_VECTORS) bits |= CONTEXT_NO_AVX;
  const tlbs = interpreter.fastTlbs(cpu.index, currentPcid(cpu));
  cpu.context = (interpreter.generation(cpu.index) | bits) >>> 0;

  const tlb = tlbContext(cpu, atCpl(cpu.cpl));
  cpu.tlbRead = tlbs + fastTlbOffset(tlb, FAST_READ);
  cpu.tlbWrite = tlbs + fastTlbOffset(tlb, FAST_WRITE);
  cpu.tlbFetch = tlbs + fastTlbOffset(cpu.cpl === 3 ? TLB_USER : TLB_SUPERVISOR, FAST_FETCH);
}
