/** RFLAGS bits (SDM vol. 1 3.4.3) and their lazy form in {@link State}. */
import type { State } from './state.ts';

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
/** Every defined bit, and bit 1, which is always set. */
export const DEFINED_FLAGS = 0x3f7fd7n;

/** RFLAGS as PUSHF would show it, VM and RF included; 64 bits. */
export function readFlags(cpu: State): bigint {
  const carry = cpu.flagsCarry;
  const sign = cpu.flagsSign;
  let flags = cpu.flagsRest;
  if (carry >> 63n) flags |= CF;
  if ((carry >> 63n) ^ ((carry >> 62n) & 1n)) flags |= OF;
  if (carry & 8n) flags |= AF;
  if (cpu.flagsZero === 0n) flags |= ZF;
  if (sign >> 63n) flags |= SF;
  let low = Number(sign & 0xffn);
  low ^= low >> 4;
  low ^= low >> 2;
  low ^= low >> 1;
  if ((low & 1) === 0) flags |= PF;
  return flags;
}

/** Sets all of RFLAGS; undefined bits are dropped and bit 1 is forced. */
export function writeFlags(cpu: State, value: bigint): void {
  cpu.flagsRest = (value & DEFINED_FLAGS & ~STATUS_FLAGS) | 2n;
  cpu.flagsZero = value & ZF ? 0n : 1n;
  cpu.flagsSign = (value & SF ? 1n << 63n : 0n) | (value & PF ? 0n : 1n);
  const cf = value & CF ? 1n : 0n;
  const of = value & OF ? 1n : 0n;
  cpu.flagsCarry = (cf << 63n) | ((cf ^ of) << 62n) | (value & AF ? 8n : 0n);
}
