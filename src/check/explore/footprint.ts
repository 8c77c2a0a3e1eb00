/**
 * What a run after an event depends on and what it leaves, in general: the memory it reads, the memory it writes, and which
 * registers it hands through.
 *
 * General-purpose registers other than RSP, RIP and the status flags begin as unknowns, and so does each quadword of memory that
 * one is moved to. A comparison of an unknown becomes a condition once a jump asks for it. A run that computes with an unknown, makes
 * an address of one, or comes to an instruction that is not understood well enough has no footprint. One that has goes the same way from
 * each state that fulfils its conditions, if the processor is the same but for what begins unknown.
 */
import type { Cpu } from '../../arch/cpu.ts';
import {
  IA32_EFER,
  IA32_FS_BASE,
  IA32_GS_BASE,
  IA32_KERNEL_GS_BASE,
  IA32_MCG_STATUS,
} from '../../arch/msr.ts';
import { inspectPage } from '../../arch/paging.ts';
import { STATUS_FLAGS } from '../../isa/flags.ts';
import { offsetOf, RCX, RSI, RSP } from '../../isa/state.ts';
import type { Machine } from '../../machine/machine.ts';
import type { PageTree } from '../../machine/page-tree.ts';
import { type Comparison, highOf, isSo, lowOf, RIP } from './comparison.ts';
import { asConditions, type Conditions, dwordOf, eachDword, pageOf } from './conditions.ts';
import type { Code, FlowCache } from './flow-cache.ts';
import type { InstructionFlow, Place } from './instruction-flow.ts';

const PAGE = 4096;
const QUADWORD = 8;
const RIP_DWORD = offsetOf('rip') / 4;
/** MSRs that are part of a processor's state and nothing more. */
const PLAIN_MSRS: ReadonlySet<number> = new Set([
  IA32_EFER,
  IA32_FS_BASE,
  IA32_GS_BASE,
  IA32_KERNEL_GS_BASE,
  IA32_MCG_STATUS,
]);
/** No unknown: a value that is the same in each run of the footprint. */
const FIXED = -1;
/** The status flags' number among unknowns, beyond that of RIP. */
const STATUS = 17;
const STATUS_MASK = Number(STATUS_FLAGS);
/** What an exception frame holds of them, from its lowest address. */
const FRAME_RIP = 0;
const FRAME_RFLAGS = 16;

/** What is known of a dword of memory: masks have a bit for each bit of it. */
interface Cell {
  /** What is read before it is written, and what it holds. */
  mask: number;
  value: number;
  written: number;
  /** The unknown that it holds a half of, times 2, plus 1 for the high half; FIXED if none. */
  unknown: number;
}

/** Which bits of a dword are unknown. */
function unknownBits({ unknown }: Cell): number {
  if (unknown === FIXED) return 0;
  if (unknown >> 1 !== STATUS) return -1;
  return unknown % 2 === 0 ? STATUS_MASK : 0;
}

/** What the status flags hold: a fixed value, what they held at the beginning, or what followed from unknowns. */
type Flags =
  | typeof FIXED
  | typeof STATUS
  | 'mixed'
  | { readonly unknown: number; readonly value: bigint; readonly left: boolean };

interface Access {
  readonly physical: number;
  readonly size: number;
  readonly write: boolean;
}

const NO_ACCESSES: Access[] = [];

export class FootprintRecorder {
  readonly #machine: Machine;
  readonly #cpu: Cpu;
  readonly #flows: FlowCache;
  readonly #begin: PageTree;
  readonly #ramBytes: number;
  /** By general-purpose register: the unknown that it holds, or FIXED. */
  readonly #registers: number[];
  #flags: Flags = STATUS;
  #rip = RIP;
  readonly #comparisons: Comparison[] = [];
  /** By dword of physical memory. */
  readonly #cells = new Map<number, Cell>();
  readonly #executed = new Set<Code>();
  /** Physical addresses of pages of code, by linear page number. */
  readonly #codePages = new Map<number, number>();
  /** Accesses of the step in progress. */
  #accesses: Access[] = NO_ACCESSES;
  readonly #detach: () => void;
  /** What was unknown at the beginning. */
  readonly #ripAtFirst: bigint;
  readonly #gprAtFirst: BigUint64Array;
  /** There is no footprint. */
  #spoilt = false;

  /** Begins at the present state of a processor in 64-bit mode. @param begin memory as it is there */
  constructor(machine: Machine, index: number, begin: PageTree, flows: FlowCache) {
    this.#machine = machine;
    this.#begin = begin;
    this.#cpu = machine.cpus[index];
    this.#flows = flows;
    this.#ramBytes = machine.configuration.ramBytes;
    this.#ripAtFirst = this.#cpu.rip;
    this.#gprAtFirst = this.#cpu.gpr.slice();
    this.#registers = Array.from({ length: 16 }, (_, i) => (i === RSP ? FIXED : i));
    this.#detach = machine.on('access', (cpu, physical, size, write) => {
      if (cpu === index) this.#note({ physical, size, write });
    });
    // Where a translation comes from counts as read, too.
    this.#cpu.tlb.invalidateContext(-1, true);
  }

  #note(access: Access): void {
    if (this.#accesses.length === 0) this.#accesses = [access];
    else this.#accesses.push(access);
  }

  /** Ends the observation. */
  close(): void {
    this.#detach();
  }

  /**
   * The delivery of an event without an error code.
   * @param advance runs it
   * @returns whether the run may still have a footprint
   */
  deliver(advance: () => void): boolean {
    this.#accesses = NO_ACCESSES;
    advance();
    for (const access of this.#accesses) this.#touch(access);
    const rip = this.#physicalAt(this.#cpu.gpr[RSP] + BigInt(FRAME_RIP));
    const rflags = this.#physicalAt(this.#cpu.gpr[RSP] + BigInt(FRAME_RFLAGS));
    this.#mark(rip, RIP);
    this.#mark(rflags, STATUS);
    this.#rip = FIXED;
    return !this.#spoilt;
  }

  /**
   * Takes one step.
   * @param advance runs one instruction
   * @returns whether the run may still have a footprint
   */
  step(advance: () => void): boolean {
    const flow = this.#fetch();
    if (flow === undefined || !this.#computes(flow)) return false;
    const { move, compare } = flow;
    const { gpr } = this.#cpu;
    const copied = move?.from === 'memory' && move.to === 'memory' ? this.#physicalAt(gpr[RSI]) : -1;
    const rip = flow.rip === undefined ? -1 : this.#physicalAt(gpr[RSP] + BigInt(flow.rip));
    const rflags = flow.rflags === undefined ? -1 : this.#physicalAt(gpr[RSP] + BigInt(flow.rflags));
    this.#accesses = NO_ACCESSES;
    advance();
    // Before the access that counts there may be those of its translation.
    const last = this.#accesses.at(-1);
    const toMemory = move?.to === 'memory' && last?.write ? last : undefined;
    const fromMemory =
      move?.from !== 'memory'
        ? undefined
        : copied < 0
          ? last
          : this.#accesses.find(({ physical, write }) => physical === copied && !write);
    const compared = compare?.left === 'memory' || compare?.right === 'memory' ? last : undefined;
    for (const access of this.#accesses) {
      if (access === toMemory || access === fromMemory || access === compared) continue;
      if (!access.write && (access.physical === rip || access.physical === rflags)) continue;
      this.#touch(access, flow.mayChange);
    }
    if (flow.condition !== undefined && !this.#decide(flow)) return false;
    this.#settle(flow, fromMemory?.physical ?? -1, toMemory?.physical ?? -1);
    this.#settleFlags(flow, last?.physical ?? -1);
    if (compare) this.#compare(compare.left, compare.right, compared?.physical ?? -1);
    if (rip >= 0) this.#rip = this.#load(rip);
    if (rflags >= 0) this.#loadFlags(rflags);
    return !this.#spoilt;
  }

  /** The instruction at RIP. */
  #fetch(): InstructionFlow | undefined {
    const { u32, mode64 } = this.#cpu;
    // Code that an unknown was jumped to is another in each run.
    if (!mode64 || this.#rip !== FIXED) return undefined;
    const number = u32[RIP_DWORD + 1] * 0x10_0000 + (u32[RIP_DWORD] >>> 12);
    let page = this.#codePages.get(number);
    if (page === undefined) {
      const found = inspectPage(this.#cpu, this.#cpu.rip & ~0xfffn);
      if (found === null || found.physical + PAGE > this.#ramBytes) return undefined;
      page = found.physical;
      this.#codePages.set(number, page);
    }
    const code = this.#flows.codeAt(this.#machine, page + (u32[RIP_DWORD] & 0xfff));
    if (code === undefined) return undefined;
    this.#executed.add(code);
    if (code.msr && !PLAIN_MSRS.has(Number(this.#cpu.gpr[RCX] & 0xffff_ffffn))) return undefined;
    return code.flow;
  }

  /** Whether an instruction computes with fixed values only, or is a jump by a comparison. */
  #computes({ reads, alters, readsFlags, condition }: InstructionFlow): boolean {
    for (let i = 0; i < 16; i++)
      if ((((reads | alters) >> i) & 1) !== 0 && this.#registers[i] !== FIXED) return false;
    if (!readsFlags || this.#flags === FIXED) return true;
    return condition !== undefined && typeof this.#flags === 'object';
  }

  /** A conditional jump was taken or not: by a comparison of an unknown, that is a condition. */
  #decide({ condition }: InstructionFlow): boolean {
    const flags = this.#flags;
    if (typeof flags !== 'object' || condition === undefined) return true;
    const { unknown, left, value } = flags;
    const compared = { unknown, left, condition, high: highOf(value), low: lowOf(value) };
    const present = unknown === RIP ? this.#ripAtFirst : this.#gprAtFirst[unknown];
    const [a, b] = left ? [present, value] : [value, present];
    const holds = isSo(condition, highOf(a), lowOf(a), highOf(b), lowOf(b));
    if (holds === undefined) return false;
    this.#comparisons.push({ ...compared, holds });
    return true;
  }

  /** Where a linear address is; -1 if nowhere. */
  #physicalAt(linear: bigint): number {
    return inspectPage(this.#cpu, linear)?.physical ?? -1;
  }

  #cell(dword: number): Cell {
    let cell = this.#cells.get(dword);
    if (cell === undefined) {
      cell = { mask: 0, value: 0, written: 0, unknown: FIXED };
      this.#cells.set(dword, cell);
    }
    return cell;
  }

  /** An access to fixed values. @param mayChange if it is a write of memory that was read: bits of the first dword that may differ */
  #touch({ physical, size, write }: Access, mayChange = -1): void {
    if (physical + size > this.#ramBytes) {
      this.#spoilt = true;
      return;
    }
    const first = physical / 4;
    eachDword(physical, size, (dword, mask) => {
      const cell = this.#cell(dword);
      let bits = mask;
      const unknown = unknownBits(cell);
      if ((mask & unknown) !== 0) {
        if (dword === first && mayChange !== -1 && (mayChange & unknown) === 0) bits &= ~unknown;
        else if (write && (mask & unknown) === unknown) cell.unknown = FIXED;
        else this.#spoilt = true;
      }
      if (write) cell.written |= mask;
      else this.#read(cell, dword, bits & ~cell.written);
    });
  }

  #read(cell: Cell, dword: number, mask: number): void {
    const fresh = mask & ~cell.mask;
    if (fresh === 0) return;
    // It may have been written since, by the same instruction.
    const page = this.#begin.get(pageOf(dword));
    cell.value |= (page ? dwordOf(page, dword) : 0) & fresh;
    cell.mask |= fresh;
  }

  /** The unknown that a quadword of memory is; FIXED if it is read as such. */
  #load(physical: number): number {
    if (physical >= 0 && physical % 4 === 0) {
      const low = this.#cell(physical / 4);
      const high = this.#cell(physical / 4 + 1);
      if (low.unknown !== FIXED && low.unknown % 2 === 0 && high.unknown === low.unknown + 1) {
        const known = ~unknownBits(low) & ~low.written;
        if (known !== 0) this.#read(low, physical / 4, known);
        return low.unknown / 2;
      }
    }
    this.#touch({ physical, size: QUADWORD, write: false });
    return FIXED;
  }

  #store(physical: number, unknown: number): void {
    this.#touch({ physical, size: QUADWORD, write: true });
    if (unknown !== FIXED) this.#mark(physical, unknown);
  }

  /** A quadword of memory, which has just been written, holds an unknown. */
  #mark(physical: number, unknown: number): void {
    if (physical < 0 || physical % 4 !== 0 || physical + QUADWORD > this.#ramBytes) {
      this.#spoilt = true;
      return;
    }
    this.#cell(physical / 4).unknown = 2 * unknown;
    this.#cell(physical / 4 + 1).unknown = 2 * unknown + 1;
  }

  /** After the step: what registers hold, and what moved. @param from, to physical addresses of the quadwords, of memory; -1 if none */
  #settle({ writes, move }: InstructionFlow, from: number, to: number): void {
    let moved = FIXED;
    if (typeof move?.from === 'number') moved = this.#registers[move.from];
    else if (from >= 0) moved = this.#load(from);
    for (let i = 0; i < 16; i++) if (((writes >> i) & 1) !== 0) this.#registers[i] = FIXED;
    if (typeof move?.to === 'number') this.#registers[move.to] = moved;
    else if (to >= 0) this.#store(to, moved);
    if (this.#registers[RSP] !== FIXED) this.#spoilt = true;
  }

  /** After the step: what the status flags hold. @param last access */
  #settleFlags({ flags, mayChange }: InstructionFlow, last: number): void {
    if (flags === 'kept') return;
    const unknown =
      mayChange !== undefined && last >= 0 && unknownBits(this.#cell(Math.floor(last / 4))) !== 0;
    if (unknown) this.#flags = 'mixed';
    else if (flags === 'set') this.#flags = FIXED;
    else if (this.#flags !== FIXED) this.#flags = 'mixed';
  }

  /** After CMP. @param physical of the operand in memory */
  #compare(left: Place, right: Place | bigint, physical: number): void {
    const { gpr } = this.#cpu;
    const at = (place: Place | bigint): { unknown: number; value: bigint } => {
      if (typeof place === 'bigint') return { unknown: FIXED, value: place };
      if (place === 'memory') return { unknown: this.#load(physical), value: this.#quadword(physical) };
      return { unknown: this.#registers[place], value: gpr[place] };
    };
    const [a, b] = [at(left), at(right)];
    if (a.unknown === FIXED && b.unknown === FIXED) this.#flags = FIXED;
    else if (a.unknown === STATUS || b.unknown === STATUS || (a.unknown !== FIXED && b.unknown !== FIXED))
      this.#flags = 'mixed';
    else if (a.unknown !== FIXED) this.#flags = { unknown: a.unknown, value: b.value, left: true };
    else this.#flags = { unknown: b.unknown, value: a.value, left: false };
  }

  #quadword(physical: number): bigint {
    const bytes = this.#machine.readPhysical(physical, QUADWORD);
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }

  /** RFLAGS was loaded. */
  #loadFlags(physical: number): void {
    const unknown = this.#load(physical);
    if (unknown === FIXED || unknown === STATUS) this.#flags = unknown;
    else this.#spoilt = true;
  }

  /** Every unknown is where it was at the beginning, whatever it was; RSP as well, if it does now. */
  get handsThrough(): boolean {
    return (
      this.#rip === RIP &&
      this.#flags === STATUS &&
      this.#registers.every((unknown, i) => i === RSP || unknown === i)
    );
  }

  get comparisons(): readonly Comparison[] {
    return this.#comparisons;
  }

  /**
   * What memory has to be for a run to be like this one, and to leave behind what is in it now: reads, and of what it wrote, the
   * bits that `left` says somebody may read.
   * @param left which of some bits of a dword, by its number
   * @returns undefined if a value that may be another the next time is left in memory
   */
  conditions(left: (dword: number, bits: number) => number): Conditions | undefined {
    const { ramDwords } = this.#machine;
    for (const [dword, cell] of this.#cells) {
      if (cell.written === 0) continue;
      const kept = left(dword, cell.written);
      if (kept === 0) continue;
      const value = ramDwords[dword] & kept;
      if ((unknownBits(cell) & kept) !== 0 || ((cell.value ^ value) & kept & cell.mask) !== 0)
        return undefined;
      cell.value |= value;
      cell.mask |= kept;
    }
    for (const { conditions } of this.#executed) {
      const { dwords, masks, values } = conditions;
      for (let i = 0; i < dwords.length; i++) {
        const cell = this.#cell(dwords[i]);
        // Code that changes itself.
        if ((cell.written & masks[i]) !== 0) return undefined;
        cell.value |= values[i] & ~cell.mask;
        cell.mask |= masks[i];
      }
    }
    return asConditions(this.#cells);
  }
}
