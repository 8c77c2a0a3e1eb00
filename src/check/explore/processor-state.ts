/**
 * What a processor is, as far as it can matter to what it does next: registers, pending events, and its local APIC's requests.
 * Not counted are time (the instruction count), and RF, which the next instruction clears and no breakpoint asks for; nor that a
 * repeated string instruction is under way, for that is pushed as RF and comes back as RF; nor, in 64-bit mode, the limit and the
 * granularity of CS, which nothing looks at there (SDM vol. 3A 3.4.2.1, 5.3.1): those that SYSCALL sets need not be the
 * descriptor's, which are there after an IRET.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { INITIAL_TILES, sameTiles } from '../../arch/tile-state.ts';
import { RF, readFlagsDword } from '../../isa/flags.ts';
import { CS, fields, offsetOf } from '../../isa/state.ts';
import type { Machine } from '../../machine/machine.ts';
import { equalBut } from './differences.ts';

/** Dwords of a processor's area: the first of the state, the lazy flags, and those that time and the engine follow. */
export const FIRST = offsetOf('gpr') / 4;
export const LAST = offsetOf('instructions') / 4;
export const FLAG_FIELDS = [offsetOf('flagsZero') / 4, offsetOf('flagsCarry') / 4 + 2] as const;
export const EXTENDED = offsetOf('x87') / 4;
export const EXTENDED_END = (fields.ymm.offset + fields.ymm.bytes * fields.ymm.count) / 4;

const RIP = offsetOf('rip') / 4;
const REST = offsetOf('flagsRest') / 4;
const RF_BIT = Number(RF);
const REPEATING = offsetOf('repeating');
const REPEATING_DWORD = REPEATING >> 2;
const REPEATING_BITS = 0xff << (8 * (REPEATING % 4));

/** Attributes of ES and CS as they stand in the state; of CS, L says 64-bit mode where IA-32e mode is active. */
const CODE_ATTRIBUTES = offsetOf('segAttributes') / 4;
const CODE_LONG = 0x2000_0000;
const CODE_GRANULARITY = 0x8000_0000;

const ALL = new Uint32Array(EXTENDED_END).fill(0xffff_ffff);
const IN_64_BIT_MODE = ALL.slice();
IN_64_BIT_MODE[CODE_ATTRIBUTES] &= ~CODE_GRANULARITY;
for (const field of ['segLimit', 'segReadLow', 'segReadHigh', 'segWriteLow', 'segWriteHigh'] as const)
  IN_64_BIT_MODE[offsetOf(field, CS) / 4] = 0;

/** The bits that count of each of the state's dwords below {@link EXTENDED_END}. */
export function countedBits({ longMode, u32 }: Cpu): Uint32Array {
  return longMode && u32[CODE_ATTRIBUTES] & CODE_LONG ? IN_64_BIT_MODE : ALL;
}

/** A copy of a processor's state, to compare with. */
export class ProcessorState {
  readonly #dwords = new Uint32Array(EXTENDED_END);
  readonly #bytes = new Uint8Array(this.#dwords.buffer);
  #of: Cpu | undefined;
  #presentBytes: Uint8Array = new Uint8Array();
  readonly #requests = new Uint32Array(16);
  #flags = 0;
  #tiles = INITIAL_TILES;

  /** Copies the present state. */
  take(machine: Machine, cpu: Cpu): void {
    this.#dwords.set(cpu.u32.subarray(0, EXTENDED_END));
    this.#flags = readFlagsDword(cpu) & ~RF_BIT;
    this.#tiles = cpu.tiles;
    const { requested, inService } = machine.interruptRequests(cpu.index);
    this.#requests.set(requested);
    this.#requests.set(inService, 8);
  }

  /** The bytes of the state as it is now. */
  #present(cpu: Cpu): Uint8Array {
    if (this.#of !== cpu) {
      this.#of = cpu;
      this.#presentBytes = new Uint8Array(cpu.u32.buffer, cpu.u32.byteOffset, EXTENDED_END * 4);
    }
    return this.#presentBytes;
  }

  /** Whether RIP is the same. */
  at({ u32 }: Cpu): boolean {
    return u32[RIP] === this.#dwords[RIP] && u32[RIP + 1] === this.#dwords[RIP + 1];
  }

  /** Whether the present state is the same. */
  same(machine: Machine, cpu: Cpu): boolean {
    const { u32 } = cpu;
    const dwords = this.#dwords;
    const counted = countedBits(cpu);
    const same = equalBut(this.#bytes, this.#present(cpu), FIRST, EXTENDED_END, (i) => {
      if (i === REST || (i >= FLAG_FIELDS[0] && i < FLAG_FIELDS[1]) || (i >= LAST && i < EXTENDED))
        return true;
      const bits = (u32[i] ^ dwords[i]) & counted[i];
      return (i === REPEATING_DWORD ? bits & ~REPEATING_BITS : bits) === 0;
    });
    if (!same) return false;
    if (u32[REST + 1] !== dwords[REST + 1] || (readFlagsDword(cpu) & ~RF_BIT) !== this.#flags) return false;
    if (!sameTiles(cpu.tiles, this.#tiles)) return false;
    const { requested, inService } = machine.interruptRequests(cpu.index);
    for (let i = 0; i < 8; i++)
      if (requested[i] !== this.#requests[i] || inService[i] !== this.#requests[i + 8]) return false;
    return true;
  }
}
