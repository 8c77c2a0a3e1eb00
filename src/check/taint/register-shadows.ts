/** The shadows of one processor's registers. */
import { insert, type Shadow } from '../../engine/taint/shadow.ts';
import { VECTOR_PARTS } from '../../engine/taint/taint-builder.ts';
import { FS, GS, type SegmentNumber } from '../../isa/state.ts';
import type { Location } from './location.ts';

type MaybeShadow = Shadow | null;

export class RegisterShadows {
  readonly gpr: MaybeShadow[] = new Array(16).fill(null);
  /** Parts of vector registers, numbered as by `vectorPart`. */
  readonly vectors: MaybeShadow[] = new Array(VECTOR_PARTS).fill(null);
  /** RFLAGS, bit by bit. */
  flags: MaybeShadow = null;
  /** RIP where a return loaded it; the kernel's own is asked for as a code address where it becomes a value. */
  rip: MaybeShadow = null;
  /** ES CS SS DS FS GS LDTR TR. */
  readonly selectors: MaybeShadow[] = new Array(8).fill(null);
  fsBase: MaybeShadow = null;
  gsBase: MaybeShadow = null;
  kernelGsBase: MaybeShadow = null;
  cr2: MaybeShadow = null;
  readonly debug: MaybeShadow[] = new Array(8).fill(null);

  base(segment: SegmentNumber): MaybeShadow {
    return segment === FS ? this.fsBase : segment === GS ? this.gsBase : null;
  }

  /** What is in a place other than memory. */
  get(location: Exclude<Location, { kind: 'memory' }>): MaybeShadow {
    switch (location.kind) {
      case 'register':
        return this.gpr[location.index];
      case 'debug':
        return this.debug[location.index];
      case 'vector':
        return this.vectors[location.part];
      case 'selector':
        return this.selectors[location.segment];
      case 'base':
        return this.base(location.segment);
      default:
        return this[location.kind];
    }
  }

  set(location: Exclude<Location, { kind: 'memory' }>, shadow: MaybeShadow): void {
    switch (location.kind) {
      case 'register':
        this.gpr[location.index] = shadow;
        break;
      case 'debug':
        this.debug[location.index] = shadow;
        break;
      case 'vector':
        this.vectors[location.part] = shadow;
        break;
      case 'selector':
        this.selectors[location.segment] = shadow;
        break;
      case 'base':
        if (location.segment === FS) this.fsBase = shadow;
        else if (location.segment === GS) this.gsBase = shadow;
        break;
      default:
        this[location.kind] = shadow;
    }
  }
}

/** The shadow of a register of 64 bits after a write of `width` bits as x86 does it: 32 clear the upper half. */
export function written(old: MaybeShadow, shadow: MaybeShadow, width: number): MaybeShadow {
  const part = shadow === null ? null : shadow.low(width);
  return width >= 32 ? part : insert(old, part, 0, width);
}
