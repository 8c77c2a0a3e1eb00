/** Places that hold values with shadows, and their names. */
import type { Shadow } from '../../engine/taint/shadow.ts';
import { FS, type SegmentNumber } from '../../isa/state.ts';

export type Location =
  | { readonly kind: 'register'; readonly index: number }
  | { readonly kind: 'flags' | 'rip' | 'kernelGsBase' | 'cr2' }
  | { readonly kind: 'selector' | 'base'; readonly segment: SegmentNumber }
  | { readonly kind: 'debug'; readonly index: number }
  /** A part of a vector register, by `vectorPart` of the taint builder. */
  | { readonly kind: 'vector'; readonly part: number }
  /** `bytes` from physical address `physical`, in one page; `linear` is how it was reached. */
  | {
      readonly kind: 'memory';
      readonly physical: number;
      readonly linear: bigint;
      readonly bytes: number;
    };

/** A place and the shadow of what is in it. */
export interface Held {
  readonly location: Location;
  readonly shadow: Shadow | null;
}

const GENERAL = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'];

/** The place's name: `rsp`, `gs.base`, `[0xffff888000001000]`. */
export function nameOf(location: Location): string {
  switch (location.kind) {
    case 'register':
      return GENERAL[location.index] ?? `r${location.index}`;
    case 'flags':
      return 'rflags';
    case 'rip':
    case 'cr2':
      return location.kind;
    case 'kernelGsBase':
      return 'IA32_KERNEL_GS_BASE';
    case 'selector':
      return SEGMENTS[location.segment];
    case 'base':
      return location.segment === FS ? 'fs.base' : 'gs.base';
    case 'debug':
      return `dr${location.index}`;
    case 'vector':
      return location.part >= 32 ? `mm${location.part - 32}` : `ymm${location.part >> 1}`;
    case 'memory':
      return `[0x${location.linear.toString(16)}]`;
  }
}

/** `31:16`, `[7]`. */
export function bitRange(high: number, low: number): string {
  return high === low ? `[${high}]` : `[${high}:${low}]`;
}

/** The same place, or for memory one that shares bytes with it. */
export function overlaps(a: Location, b: Location): boolean {
  if (a.kind !== b.kind) return false;
  if (a.kind === 'memory' && b.kind === 'memory')
    return a.physical < b.physical + b.bytes && b.physical < a.physical + a.bytes;
  if (a.kind === 'register' || a.kind === 'debug') return a.index === (b as typeof a).index;
  if (a.kind === 'vector') return a.part === (b as typeof a).part;
  if (a.kind === 'selector' || a.kind === 'base') return a.segment === (b as typeof a).segment;
  return true;
}
