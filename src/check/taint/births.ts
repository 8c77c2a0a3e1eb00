/** Where secrets come from: each has an origin, whose number is in the labels of its bits. */
import { bitOf, born, type Label, originOf, type Shadow } from '../../engine/taint/shadow.ts';

export type BirthKind =
  /** A stack pointer of the kernel's: from the TSS or IA32_SYSENTER_ESP. */
  | 'stack-pointer'
  /** IA32_KERNEL_GS_BASE, as user mode was left. */
  | 'gs-base'
  /** An address in the kernel's code: RIP-relative, or a return address. */
  | 'code-address'
  /** Memory that user mode cannot read, which nothing has written since tracking began. */
  | 'kernel-memory'
  /** CR3, GDTR, IDTR, an MSR, a debug register. */
  | 'system-register'
  /** Part of a segment descriptor that user mode could not load. */
  | 'descriptor'
  /** What an instruction changed whose effect on secrets is not known. */
  | 'conservative';

export interface Birth {
  readonly kind: BirthKind;
  /** In words: `kernel stack pointer (TSS.RSP0 of CPU 0)`. */
  readonly what: string;
  /** The instruction, counted from the start of tracking, and its address. */
  readonly index: number;
  readonly rip: bigint;
  /** Linear address of the first byte, of kernel memory. */
  readonly linear?: bigint;
  /** Its physical address. */
  readonly physical?: number;
}

/** A bit's origin. */
export interface BirthBit {
  readonly birth: Birth;
  readonly bit: number;
}

export class Births {
  readonly #all: Birth[] = [];
  readonly #codeAddresses = new Map<bigint, Shadow>();

  /** A new secret of `width` bits. */
  add(birth: Birth, width: number): Shadow {
    this.#all.push(birth);
    return born(this.#all.length, width);
  }

  /** The secret that a kernel code address is; of equal addresses it is one. */
  codeAddress(address: bigint, index: number, rip: bigint): Shadow {
    let shadow = this.#codeAddresses.get(address);
    if (shadow === undefined) {
      const what = `kernel code address 0x${address.toString(16)}`;
      shadow = this.add({ kind: 'code-address', what, index, rip }, 64);
      this.#codeAddresses.set(address, shadow);
    }
    return shadow;
  }

  /** What a label names; undefined for one that is no secret's. */
  find(label: Label): BirthBit | undefined {
    const birth = this.#all[originOf(label) - 1];
    return birth && { birth, bit: bitOf(label) };
  }
}
