/** Exploring the interleavings of one window, as worker threads do it. */
import { builtinWindow, type WindowName } from '../check/interleave/builtin.ts';
import { exploreInterleavings, type InterleavingReport } from '../check/interleave/interleavings.ts';
import type { ImageName } from '../kernel/variants/gallery/names.ts';

export interface InterleaveTask {
  readonly variant: ImageName;
  readonly window: WindowName;
  readonly cpus: number;
  readonly preemptions: number;
  /** Not 0: end soon. */
  readonly stop: SharedArrayBuffer;
}

export default function interleave(task: InterleaveTask): InterleavingReport {
  const { variant, window, cpus, preemptions, stop } = task;
  const flag = new Int32Array(stop);
  return exploreInterleavings(builtinWindow(variant, window, { cpus }), {
    preemptions,
    stop: () => Atomics.load(flag, 0) !== 0,
  });
}
