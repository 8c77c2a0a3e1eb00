/**
 * The x87 register stack, status word and exceptions. SDM vol. 1 8.1 (environment), 8.4, 8.5 (exceptions), 8.7 (reporting).
 *
 * The processor's state holds registers by physical number (two quadwords each: significand, then sign and exponent), and a
 * tag word of which only 11b, empty, means something: the other tags are made from the registers where they are stored.
 */
import {
  ALL_EXCEPTIONS,
  BEFORE_RESULT,
  Environment,
  INVALID,
  OVERFLOW,
  PRECISION,
  type Rounding,
  UNDERFLOW,
} from '../isa/float/environment.ts';
import {
  F80,
  F80_DOUBLE,
  F80_SINGLE,
  type Format,
  indefinite,
  type Real,
  unpack,
} from '../isa/float/format.ts';
import type { Cpu } from './cpu.ts';

/** Bits of the status word; exception flags are those of isa/float. */
export const FSW_SF = 0x40;
export const FSW_ES = 0x80;
export const FSW_C0 = 0x100;
export const FSW_C1 = 0x200;
export const FSW_C2 = 0x400;
export const FSW_C3 = 0x4000;
export const FSW_B = 0x8000;
const FSW_TOP = 0x3800;

/** Bits of the control word that can be written; bit 6 is always 1. */
const FCW_WRITABLE = 0x1f3f;
const FCW_ONES = 0x40;
export const FCW_INITIAL = 0x37f;

export const INDEFINITE = indefinite(F80);
export const EMPTY = 3;

/** The number of the register on top of the stack. */
export function top(cpu: Cpu): number {
  return (cpu.fsw >> 11) & 7;
}

export function setTop(cpu: Cpu, value: number): void {
  cpu.fsw = (cpu.fsw & ~FSW_TOP) | ((value & 7) << 11);
}

export function isEmpty(cpu: Cpu, i: number): boolean {
  return ((cpu.ftw >> (2 * ((top(cpu) + i) & 7))) & 3) === EMPTY;
}

function setTag(cpu: Cpu, physical: number, tag: number): void {
  cpu.ftw = (cpu.ftw & ~(3 << (2 * physical))) | (tag << (2 * physical));
}

/** The encoding in physical register `n`. */
export function readPhysical(cpu: Cpu, n: number): bigint {
  return ((cpu.x87[2 * n + 1] & 0xffffn) << 64n) | cpu.x87[2 * n];
}

export function writePhysical(cpu: Cpu, n: number, bits: bigint): void {
  cpu.x87[2 * n] = bits;
  cpu.x87[2 * n + 1] = bits >> 64n;
}

/** The encoding in ST(i). */
export function readSt(cpu: Cpu, i: number): bigint {
  return readPhysical(cpu, (top(cpu) + i) & 7);
}

/** Writes ST(i), which then is not empty. */
export function writeSt(cpu: Cpu, i: number, bits: bigint): void {
  const physical = (top(cpu) + i) & 7;
  writePhysical(cpu, physical, bits);
  setTag(cpu, physical, 0);
}

export function free(cpu: Cpu, i: number): void {
  setTag(cpu, (top(cpu) + i) & 7, EMPTY);
}

export function pop(cpu: Cpu): void {
  free(cpu, 0);
  setTop(cpu, top(cpu) + 1);
}

/** Pushes, with no check. */
export function push(cpu: Cpu, bits: bigint): void {
  setTop(cpu, top(cpu) - 1);
  writeSt(cpu, 0, bits);
}

/** ST(i) as a number. */
export function st(cpu: Cpu, i: number): Real {
  return unpack(F80, readSt(cpu, i));
}

export function setC1(cpu: Cpu, set: boolean): void {
  cpu.fsw = set ? cpu.fsw | FSW_C1 : cpu.fsw & ~FSW_C1;
}

/** Exceptions that the control word masks. */
export function masks(cpu: Cpu): number {
  return cpu.fcw & ALL_EXCEPTIONS;
}

/** ES and B as the flags and masks have them (SDM vol. 1 8.1.3.3). */
export function summarize(cpu: Cpu): void {
  if (cpu.fsw & ~cpu.fcw & ALL_EXCEPTIONS) cpu.fsw |= FSW_ES | FSW_B;
  else cpu.fsw &= ~(FSW_ES | FSW_B);
}

export function setControlWord(cpu: Cpu, value: number): void {
  cpu.fcw = (value & FCW_WRITABLE) | FCW_ONES;
  summarize(cpu);
}

export function initialize(cpu: Cpu): void {
  cpu.fcw = FCW_INITIAL;
  cpu.fsw = 0;
  cpu.ftw = 0xffff;
  cpu.fop = 0;
  cpu.fip = 0n;
  cpu.fdp = 0n;
}

const environment = new Environment();
environment.x87 = true;

/** The environment of an operation by the control word, with no flags raised. */
export function begin(cpu: Cpu): Environment {
  environment.rounding = ((cpu.fcw >> 10) & 3) as Rounding;
  environment.masks = masks(cpu);
  environment.flags = 0;
  environment.roundedUp = false;
  return environment;
}

/** The format that precision control gives results of addition, multiplication, division and square root. */
export function precision(cpu: Cpu): Format {
  switch ((cpu.fcw >> 8) & 3) {
    case 0:
      return F80_SINGLE;
    case 2:
      return F80_DOUBLE;
    default:
      return F80;
  }
}

/**
 * Enters what an operation raised into the status word. True if its result is to be written: not after an unmasked exception
 * that is found before; nor, to memory, after unmasked overflow or underflow, which then is all that is told.
 */
export function report(cpu: Cpu, e: Environment, toMemory = false): boolean {
  const unmasked = e.flags & ~e.masks;
  if (toMemory && unmasked & (OVERFLOW | UNDERFLOW)) {
    e.flags &= ~PRECISION;
    e.roundedUp = false;
  }
  cpu.fsw |= e.flags;
  setC1(cpu, e.roundedUp);
  summarize(cpu);
  return (unmasked & (toMemory ? BEFORE_RESULT | OVERFLOW | UNDERFLOW : BEFORE_RESULT)) === 0;
}

/**
 * A stack fault: an empty register was read, or a push met a full one (`overflow`). True if it is masked, and the indefinite
 * is to be written (SDM vol. 1 8.5.1.1).
 */
export function stackFault(cpu: Cpu, overflow: boolean): boolean {
  cpu.fsw |= INVALID | FSW_SF;
  setC1(cpu, overflow);
  summarize(cpu);
  return (cpu.fcw & INVALID) !== 0;
}
