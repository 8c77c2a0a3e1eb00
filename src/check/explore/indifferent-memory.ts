/** Memory that states are not told by: whatever it holds, user mode is to see the same. */
import type { Cpu } from '../../arch/cpu.ts';
import { inspectPage } from '../../arch/paging.ts';
import type { AddressRange } from '../subject.ts';
import { dwordOf, pageOf } from './conditions.ts';
import { equalBut } from './differences.ts';

const PAGE = 4096;

/** Bytes of a page, end excluded. */
interface PageRange {
  readonly start: number;
  readonly end: number;
}

export class IndifferentMemory {
  readonly #ranges = new Map<number, PageRange[]>();
  readonly #without = new WeakMap<Uint8Array, Uint8Array>();

  /** @param ranges linear addresses; what is not mapped is left out */
  constructor(cpu: Cpu, ranges: readonly AddressRange[]) {
    for (const { start, end } of ranges)
      for (let at = start; at < end; ) {
        const next = (at | 0xfffn) + 1n < end ? (at | 0xfffn) + 1n : end;
        const found = inspectPage(cpu, at);
        if (found) {
          const page = Math.floor(found.physical / PAGE);
          const first = Number(at & 0xfffn);
          const range = { start: first, end: first + Number(next - at) };
          this.#ranges.set(page, [...(this.#ranges.get(page) ?? []), range]);
        }
        at = next;
      }
  }

  /** Whether two contents of a page are equal from byte `start` to before `end`, multiples of 4, but for it. */
  equal(page: number, a: Uint8Array, b: Uint8Array, start: number, end: number): boolean {
    if (start >= end) return true;
    return equalBut(a, b, start / 4, end / 4, (dword) => {
      const bits = this.bitsOf((page * PAGE) / 4 + dword);
      return bits !== 0 && ((dwordOf(a, dword) ^ dwordOf(b, dword)) & ~bits) === 0;
    });
  }

  /** Which bits of a dword of physical memory, by its number, are such memory. */
  bitsOf(dword: number): number {
    const ranges = this.#ranges.get(pageOf(dword));
    if (ranges === undefined) return 0;
    const at = (dword * 4) % PAGE;
    let bits = 0;
    for (const { start, end } of ranges)
      for (let i = 0; i < 4; i++) if (at + i >= start && at + i < end) bits |= 0xff << (8 * i);
    return bits;
  }

  /** A content that is never changed, with zeros in its place. Of one content it is always the same. */
  without(page: number, content: Uint8Array): Uint8Array {
    const ranges = this.#ranges.get(page);
    if (ranges === undefined) return content;
    let rest = this.#without.get(content);
    if (rest === undefined) {
      rest = content.slice();
      for (const { start, end } of ranges) rest.fill(0, start, end);
      this.#without.set(content, rest);
    }
    return rest;
  }
}
