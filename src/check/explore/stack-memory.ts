/**
 * What is dead of the kernel's stacks: bytes that no kernel without a red zone reads again before it writes them.
 *
 * Of the stack that RSP is on, that is all below RSP; of one that an event was taken from, all below RSP as it was there. Where a stack's
 * extent is a guess (`KernelStack.lowest`), only what was seen to be stack may be dead: other data may lie right below.
 *
 * A stack that nothing is on is dead as a whole, unless its kernel may have left it by itself and come back later, which nobody sees
 * of a foreign kernel: then nothing of it is.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { stackAddress } from '../../arch/stack.ts';
import type { KernelStack } from '../subject.ts';
import type { Observation } from './observation.ts';

const PAGE = 4096n;

/** Bytes of a page, `end` excluded; multiples of 4. */
export interface DeadPart {
  readonly start: number;
  readonly end: number;
}

/** Bytes of the page at `linear` below `live`, a multiple of 4; of which nothing is live where that is undefined. */
export function bytesBelow(live: bigint | undefined, linear: bigint): number {
  if (live === undefined || live >= linear + PAGE) return 4096;
  return live > linear ? Number(live - linear) & ~3 : 0;
}

const within = ({ range }: KernelStack, pointer: bigint) => pointer >= range.start && pointer <= range.end;

export class StackMemory {
  readonly #cpu: Cpu;
  readonly #observation: Observation;
  readonly #stacks: readonly KernelStack[];
  readonly #foreign: boolean;
  /** Of stacks whose extent is a guess, the lowest address seen in use. */
  readonly #lowest = new Map<KernelStack, bigint>();
  /** Those that the visit itself goes on with after having been elsewhere, or may. */
  readonly #own = new Set<KernelStack>();

  /** @param foreign nobody has said when this kernel leaves a stack */
  constructor(cpu: Cpu, observation: Observation, stacks: readonly KernelStack[], foreign: boolean) {
    this.#cpu = cpu;
    this.#observation = observation;
    this.#stacks = stacks;
    this.#foreign = foreign;
    for (const stack of stacks) if (stack.lowest !== undefined) this.#lowest.set(stack, stack.lowest);
  }

  /** The stack of an address. */
  stackOf(address: bigint): KernelStack | undefined {
    for (const stack of this.#stacks) if (within(stack, address)) return stack;
    return undefined;
  }

  /** RSP has come where it stands. @param ofVisit in the visit without events */
  note(ofVisit: boolean): void {
    const cpu = this.#cpu;
    if (!this.#foreign || cpu.cpl === 3) return;
    const pointer = stackAddress(cpu);
    const stack = this.stackOf(pointer);
    if (stack === undefined) return;
    if (ofVisit) this.#own.add(stack);
    const lowest = this.#lowest.get(stack);
    if (lowest !== undefined && pointer < lowest) this.#lowest.set(stack, pointer);
  }

  /** The lowest live address of the stack that has a page at `linear`; undefined if nothing of it is live. */
  liveFrom(linear: bigint): bigint | undefined {
    const stack = this.stackOf(linear + 8n);
    if (!stack) return undefined;
    let lowest: bigint | undefined;
    let holdsFrame = false;
    const take = (pointer: bigint) => {
      if (within(stack, pointer) && (lowest === undefined || pointer < lowest)) lowest = pointer;
    };
    take(stackAddress(this.#cpu));
    for (const { returned, cpl, rsp, frame } of this.#observation.deliveries) {
      if (returned) continue;
      if (cpl !== 3) take(rsp);
      if (frame !== 0n && within(stack, frame)) holdsFrame = true;
    }
    if (lowest === undefined && this.#foreign && (holdsFrame || this.#own.has(stack)))
      return stack.range.start;
    return lowest;
  }

  /** What is dead of the stack's page at `linear`; the part may be empty. */
  dead(linear: bigint): DeadPart {
    const end = bytesBelow(this.liveFrom(linear), linear);
    return { start: Math.min(this.#usedFrom(linear), end), end };
  }

  /** Where in the page at `linear` begins what is known to be stack: 0 to 4096. */
  #usedFrom(linear: bigint): number {
    if (this.#lowest.size === 0) return 0;
    const stack = this.stackOf(linear + 8n);
    const lowest = stack && this.#lowest.get(stack);
    if (lowest === undefined || lowest <= linear) return 0;
    return lowest >= linear + PAGE ? 4096 : (Number(lowest - linear) + 3) & ~3;
  }
}
