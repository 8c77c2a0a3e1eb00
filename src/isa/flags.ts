/** RFLAGS bits (SDM vol. 1 3.4.3) and their lazy form in {@link State}. */
import { lowHalf } from './halves.ts';
import { offsetOf, type State } from './state.ts';

export const CF = 1n << 0n;
export const PF = 1n << 2n;
export const AF = 1n << 4n;
export const ZF = 1n << 6n;
export const SF = 1n << 7n;
export const TF = 1n << 8n;
export const IF = 1n << 9n;
export const DF = 1n << 10n;
export const OF = 1n << 11n;
export const IOPL = 3n << 12n;
export const NT = 1n << 14n;
export const RF = 1n << 16n;
export const VM = 1n << 17n;
export const AC = 1n << 18n;
export const VIF = 1n << 19n;
export const VIP = 1n << 20n;
export const ID = 1n << 21n;

/** CF PF AF ZF SF OF. */
export const STATUS_FLAGS = CF | PF | AF | ZF | SF | OF;
/** What POPF and IRET load at every privilege, with an operand of 16 bits; wider ones load AC and ID, too. */
export const USER_FLAGS = STATUS_FLAGS | TF | DF | NT;
/** Every defined bit, and bit 1, which is always set. */
export const DEFINED_FLAGS = 0x3f7fd7n;

const DEFINED = Number(DEFINED_FLAGS);
const STATUS = Number(STATUS_FLAGS);

/** Dwords of the fields in the state. */
const REST = offsetOf('flagsRest') / 4;
const ZERO = offsetOf('flagsZero') / 4;
const SIGN = offsetOf('flagsSign') / 4;
const CARRY = offsetOf('flagsCarry') / 4;

/** RFLAGS as PUSHF would show it, VM and RF included; 64 bits. */
export function readFlags(cpu: State): bigint {
  return BigInt(readFlagsDword(cpu));
}

/** As {@link readFlags}: bits 31:0, as the others are 0. */
export function readFlagsDword(cpu: State): number {
  const { u32 } = cpu;
  const carry = u32[CARRY + 1];
  const cf = carry >>> 31;
  const of = cf ^ ((carry >>> 30) & 1);
  const af = (u32[CARRY] >>> 3) & 1;
  const zf = (u32[ZERO] | u32[ZERO + 1]) === 0 ? 1 : 0;
  const sf = u32[SIGN + 1] >>> 31;
  let low = u32[SIGN] & 0xff;
  low ^= low >> 4;
  low ^= low >> 2;
  low ^= low >> 1;
  const pf = (low & 1) ^ 1;
  return u32[REST] | cf | (pf << 2) | (af << 4) | (zf << 6) | (sf << 7) | (of << 11);
}

/** Sets all of RFLAGS; undefined bits are dropped and bit 1 is forced. */
export function writeFlags(cpu: State, value: bigint): void {
  writeFlagsDword(cpu, lowHalf(value));
}

/** As {@link writeFlags}, of bits 31:0. */
export function writeFlagsDword(cpu: State, bits: number): void {
  const { u32 } = cpu;
  u32[REST] = (bits & DEFINED & ~STATUS) | 2;
  u32[REST + 1] = 0;
  u32[ZERO] = (bits & 0x40) ^ 0x40;
  u32[ZERO + 1] = 0;
  u32[SIGN] = ((bits & 4) >>> 2) ^ 1;
  u32[SIGN + 1] = (bits & 0x80) << 24;
  const cf = bits & 1;
  const of = (bits >>> 11) & 1;
  u32[CARRY] = (bits & 0x10) >>> 1;
  u32[CARRY + 1] = (cf << 31) | ((cf ^ of) << 30);
}
