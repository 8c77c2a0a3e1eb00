/** How long work will take, judged by what has been done of it. */

/** Milliseconds and share of the work from which on the rate says something: the first pieces are no measure of the others. */
const SOONEST = 3000;
const LEAST_SHARE = 0.02;

/** `, about 2 min left`; empty as long as little is known. @param milliseconds since the beginning */
export function estimate(milliseconds: number, done: number, total: number): string {
  if (milliseconds < SOONEST || done < LEAST_SHARE * total || done >= total) return '';
  const seconds = Math.ceil(((milliseconds / 1000) * (total - done)) / done);
  return seconds < 90 ? `, about ${seconds} s left` : `, about ${Math.round(seconds / 60)} min left`;
}
