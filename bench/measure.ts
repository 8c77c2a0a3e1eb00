/** Times of one loop on one subject. */
import { buildGuest, FIRST_BATCH, type Loop } from './guest.ts';
import { median } from './median.ts';
import type { Subject } from './subjects.ts';

export interface Measurement {
  readonly loop: string;
  readonly subject: string;
  /** Microseconds of processor time a turn takes. */
  readonly turn: number;
  /** Million guest instructions a second. */
  readonly mips: number;
}

/** A batch that takes this many milliseconds of processor time is long enough to be measured. */
const ENOUGH = 500;
const TIMEOUT = 60;

/** The last batch and the one before, half as long: their difference is the time of the turns between. */
async function once(subject: Subject, image: Uint8Array): Promise<number> {
  let before: number | undefined;
  let shorter: number | undefined;
  let turns = Number(FIRST_BATCH);
  let result = 0;
  await subject.run(
    image,
    (_line, at) => {
      // The first line is the end of the first batch, whose start nobody saw.
      if (before !== undefined) {
        const took = at - before;
        turns *= 2;
        if (took >= ENOUGH && shorter !== undefined && took > shorter) {
          result = ((took - shorter) * 1000) / (turns / 2);
          return true;
        }
        shorter = took;
      }
      before = at;
      return false;
    },
    TIMEOUT,
  );
  return result;
}

/** @param repeats boots, of which the median counts */
export async function measure(subject: Subject, loop: Loop, repeats: number): Promise<Measurement> {
  const image = buildGuest(loop);
  const times: number[] = [];
  for (let i = 0; i < repeats; i++) times.push(await once(subject, image));
  const turn = median(times);
  return { loop: loop.name, subject: subject.name, turn, mips: loop.instructions / turn };
}
