/**
 * A number for the state of a machine as far as it can matter to what processors do next: registers, pending
 * events, the local APIC's requests, and memory but for what is dead. States with equal numbers are taken for equal.
 *
 * Dead are the bytes of a kernel stack below its stack pointer, and those of a stack that nothing is on: a kernel without a
 * red zone does not read them again before it writes them. Not counted is time: the instruction count.
 *
 * The number has 53 bits of two independent hashes; among 10 million states two different ones meet by chance with a
 * probability below 1 in 100.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { INITIAL_TILES } from '../../arch/tile-state.ts';
import { readFlagsDword } from '../../isa/flags.ts';
import { offsetOf, RSP } from '../../isa/state.ts';
import type { Plain } from '../../machine/devices/device.ts';
import type { Machine } from '../../machine/machine.ts';
import { countedBits, EXTENDED, EXTENDED_END, FIRST, FLAG_FIELDS, LAST } from './processor-state.ts';
import type { DeadPart } from './stack-memory.ts';

/** What is dead of the page of a stack at a linear address. */
export type DeadOf = (linear: bigint) => DeadPart;

/** Physical pages that are kernel stacks, with the linear address of each. */
export type StackPages = ReadonlyMap<number, bigint>;

const PAGE = 4096;
/** The state begins with the 16 general-purpose registers, which RIP and RFLAGS follow. */
const STACK_POINTER = FIRST + 2 * RSP;
const REST = offsetOf('flagsRest') / 4;

let high = 0;
let low = 0;

function mix(value: number): void {
  high = Math.imul(high ^ value, 0x9e37_79b1);
  high ^= high >>> 15;
  low = Math.imul(low ^ value, 0x85eb_ca6b) + 0x27d4_eb2f;
  low ^= low >>> 13;
}

/** Hash of each page's content; contents are immutable and shared between snapshots. */
const pageHashes = new WeakMap<Uint8Array, number>();

/** The hash of a page's bytes, or of others that are not changed while they are referred to. */
function hashContent(content: Uint8Array): number {
  let hash = pageHashes.get(content);
  if (hash === undefined) {
    hash = hashBytes(content, 0, content.length);
    pageHashes.set(content, hash);
  }
  return hash;
}

function hashBytes(bytes: Uint8Array, from: number, to: number): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const [h, l] = [high, low];
  high = 0x1234_5678;
  low = 0x0bad_cafe;
  for (let i = from >> 2; i < to >> 2; i++) mix(words[i]);
  const result = (high >>> 0) * 0x20_0000 + (low >>> 11);
  high = h;
  low = l;
  return result;
}

/** A page of memory that differs from where the visit began. */
export interface ChangedPage {
  readonly page: number;
  readonly content: Uint8Array;
}

/** Hash of each part of a device's state; parts are immutable and shared between snapshots. */
const plainHashes = new WeakMap<object, number>();
const double = new Float64Array(1);
const doubleDwords = new Uint32Array(double.buffer);

/** A number for the state of devices. */
export function hashDevices(state: Plain): number {
  if (typeof state !== 'object') {
    double[0] = Number(state);
    return Math.imul(doubleDwords[0] ^ 0x9e37_79b1, 0x85eb_ca6b) ^ doubleDwords[1];
  }
  let hash = plainHashes.get(state);
  if (hash === undefined) {
    hash = 7;
    const parts: ArrayLike<Plain> =
      ArrayBuffer.isView(state) || Array.isArray(state) ? (state as ArrayLike<number>) : Object.values(state);
    for (let i = 0; i < parts.length; i++) {
      hash = Math.imul(hash ^ hashDevices(parts[i]), 0x9e37_79b1);
      hash ^= hash >>> 15;
    }
    plainHashes.set(state, hash);
  }
  return hash;
}

/**
 * The state's number, for what one processor does.
 * @param changed pages that differ from the visit's beginning, in order of their numbers
 * @param dead what is dead of the page of a stack at a linear address
 */
export function hashState(
  machine: Machine,
  cpu: Cpu,
  changed: readonly ChangedPage[],
  stacks: StackPages,
  dead: DeadOf,
): number {
  high = 0x51ed_270b;
  low = 0x2c1b_3c6d;
  mixProcessor(machine, cpu);
  mixMemory(changed, stacks, dead);
  return (high >>> 0) * 0x20_0000 + (low >>> 11);
}

/**
 * The state's number, for what several processors do: as {@link hashState}.
 * @param tlbs contents of their TLBs, which may be stale
 */
export function hashStates(
  machine: Machine,
  cpus: readonly Cpu[],
  tlbs: readonly Uint8Array[],
  changed: readonly ChangedPage[],
  stacks: StackPages,
  dead: DeadOf,
): number {
  high = 0x51ed_270b;
  low = 0x2c1b_3c6d;
  for (const cpu of cpus) mixProcessor(machine, cpu);
  for (const tlb of tlbs) mixHash(hashContent(tlb));
  mixMemory(changed, stacks, dead);
  return (high >>> 0) * 0x20_0000 + (low >>> 11);
}

/** A number for which processor it is and what it is, but for RIP, its status flags and its general-purpose registers other than RSP. */
export function hashContext(machine: Machine, cpu: Cpu): number {
  high = 0x51ed_270b;
  low = 0x2c1b_3c6d;
  mix(cpu.u32[STACK_POINTER]);
  mix(cpu.u32[STACK_POINTER + 1]);
  for (let i = REST; i < FLAG_FIELDS[0]; i++) mix(cpu.u32[i]);
  mix(cpu.index);
  mixSystem(machine, cpu);
  return (high >>> 0) * 0x20_0000 + (low >>> 11);
}

function mixHash(hash: number): void {
  mix(hash % 0x1_0000_0000);
  mix(Math.floor(hash / 0x1_0000_0000));
}

/** Dwords of a processor's state that are mostly as they were in the state hashed before. */
class Part {
  readonly #first: number;
  readonly #last: Uint32Array;
  readonly #told: Uint32Array;
  #counted: Uint32Array | undefined;
  #hash = 0;

  constructor(first: number, end: number) {
    this.#first = first;
    this.#last = new Uint32Array(end - first);
    this.#told = new Uint32Array(end - first);
  }

  /** @param counted the bits of each dword that count */
  hash(u32: Uint32Array, counted: Uint32Array): number {
    const last = this.#last;
    const first = this.#first;
    let different = 0;
    for (let i = 0; i < last.length; i++) different |= u32[first + i] ^ last[i];
    if (different === 0 && counted === this.#counted) return this.#hash;
    for (let i = 0; i < last.length; i++) {
      last[i] = u32[first + i];
      this.#told[i] = last[i] & counted[first + i];
    }
    this.#counted = counted;
    this.#hash = hashBytes(new Uint8Array(this.#told.buffer), 0, this.#told.byteLength);
    return this.#hash;
  }
}

/** What follows the flags, and the x87 and vector registers. */
const system = new Part(FLAG_FIELDS[1], LAST);
const extended = new Part(EXTENDED, EXTENDED_END);

function mixProcessor(machine: Machine, cpu: Cpu): void {
  const { u32 } = cpu;
  for (let i = FIRST; i < FLAG_FIELDS[0]; i++) mix(u32[i]);
  mix(readFlagsDword(cpu));
  mixSystem(machine, cpu);
}

/** All but the general-purpose registers, RIP and RFLAGS; and the local APIC's requests. */
function mixSystem(machine: Machine, cpu: Cpu): void {
  const { u32, index, tiles } = cpu;
  const counted = countedBits(cpu);
  mixHash(system.hash(u32, counted));
  mixHash(extended.hash(u32, counted));
  if (tiles !== INITIAL_TILES) {
    mixHash(hashContent(tiles.config));
    mixHash(hashContent(tiles.data));
    for (const value of [tiles.xfd, tiles.xfdErr]) mixHash(Number(value));
  }
  const { requested, inService } = machine.interruptRequests(index);
  for (let i = 0; i < 8; i++) {
    mix(requested[i]);
    mix(inService[i]);
  }
}

function mixMemory(changed: readonly ChangedPage[], stacks: StackPages, dead: DeadOf): void {
  for (const { page, content } of changed) {
    const linear = stacks.get(page);
    let hash: number;
    if (linear === undefined) {
      hash = hashContent(content);
    } else {
      const { start, end } = dead(linear);
      if (start === 0 && end === PAGE) continue;
      hash = hashBytes(content, end, PAGE);
      if (start > 0) mixHash(hashBytes(content, 0, start));
    }
    mix(page);
    mixHash(hash);
  }
}
