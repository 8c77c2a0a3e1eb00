/** A kernel of the gallery: the sound one but for one fault, and how that shows. */

import type { CaseInfo } from '../../image.ts';
import type { Verdict } from '../index.ts';
import type { Variant } from '../variant.ts';
import type { GalleryName } from './names.ts';

/** What must hold whatever comes in between. */
export type BrokenProperty =
  /** User space finds what it would find without the events. */
  | 'transparent'
  /** No bit of the kernel's own reaches user space. */
  | 'kernel-bits'
  /** No kernel access through a user GS base. */
  | 'gs'
  /** No push and no return address outside the kernel stack in use, and none over what is live there. */
  | 'stack'
  /** No write past a ministack, and none to one in use. */
  | 'ministack'
  /** No triple fault, no hang, no oops, no event lost. */
  | 'progress';

/** Events of the shortest schedule that shows a fault. `cpu` is a switch to another CPU. */
export type GalleryEvent = 'nmi' | 'mc' | 'mov-ss' | 'cpu';

export interface GalleryEntry {
  readonly name: GalleryName;
  readonly title: string;
  /** As `CVE-2014-8133`. */
  readonly cve?: string;
  readonly description: string;
  /** What the fault breaks, all events considered; `safe` for kernels that are here to show that they are sound. */
  readonly verdict: Verdict;
  /** What the image's own cases, without events from outside, find. */
  readonly withoutEvents: Verdict;
  /** The property that fails; undefined for sound kernels. */
  readonly property: BrokenProperty | undefined;
  /** The shortest schedule: events in their order. None where a case alone shows the fault. */
  readonly events: readonly GalleryEvent[];
  /** Label of the instruction at which the first event strikes or, without events, the fault begins. */
  readonly at: string;
  /** Processors that it takes. */
  readonly cpus: number;
  /** Cases that show it. */
  readonly shows: (c: CaseInfo) => boolean;
  readonly variant: Variant & { readonly name: GalleryName };
}
