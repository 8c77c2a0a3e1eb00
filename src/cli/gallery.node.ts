/**
 * `npm run gallery`: checks every kernel of the gallery and writes docs/gallery.md.
 *
 *     npm run gallery [-- NAME]
 *
 * With the name of a kernel it is checked alone, and the schedule that shows its fault is told in full; nothing is
 * written. Ends with status 1 if a fault is not found, something is wrong with the sound
 * kernel, or a schedule does not show the same again.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Examined, examine, isReplayed, isSoundClean, isTold } from '../check/gallery.ts';
import { galleryPage, headOf } from '../check/report/gallery-page.ts';
import { stepLines } from '../check/report/text.ts';
import { gallery } from '../kernel/variants/gallery/index.ts';

const PAGE = 'docs/gallery.md';

const verdict = (examined: Examined) =>
  `${examined.entry.name}: ${isTold(examined) ? 'as the gallery says' : 'NOT AS THE GALLERY SAYS'}; ` +
  `the sound kernel ${isSoundClean(examined) ? 'is clean' : 'IS NOT CLEAN'}; ` +
  `schedules ${isReplayed(examined) ? 'show the same again' : 'DO NOT SHOW THE SAME AGAIN'}`;

function examineAndTell(entry: (typeof gallery)[number]): Examined {
  const examined = examine(entry);
  console.log(verdict(examined));
  return examined;
}

const [name] = process.argv.slice(2);
const entries = gallery.filter((entry) => name === undefined || entry.name === name);
if (entries.length === 0) {
  console.error(`${name}: expected one of ${gallery.map((entry) => entry.name).join(', ')}`);
  process.exitCode = 2;
}
const all = entries.map(examineAndTell);
if (name === undefined) {
  const heads = new Map(
    gallery.map((entry) => [
      entry.name,
      headOf(readFileSync(`src/kernel/variants/gallery/${entry.name}.ts`, 'utf8')),
    ]),
  );
  writeFileSync(PAGE, galleryPage(all, heads));
  console.log(PAGE);
} else
  for (const { visits, interleavings } of all) {
    if (visits?.shown) {
      const { finding, story } = visits.shown;
      const lines = [`${finding.property}: ${finding.what}`, ...finding.details.map((text) => `  ${text}`)];
      lines.push(...stepLines(story.steps), `${story.ending}, at ${story.end.name}`);
      console.log(lines.join('\n'));
    }
    if (interleavings?.shown) {
      const { finding, turns, window } = interleavings.shown;
      console.log(`${finding.property}: ${finding.what}, where ${window}`);
      for (const { cpu, instructions, place } of turns)
        console.log(`  CPU ${cpu}, ${instructions} instructions, to ${place.name}: ${place.text}`);
      for (const text of finding.details) console.log(`  ${text}`);
    }
  }
if (!all.every((each) => isTold(each) && isSoundClean(each) && isReplayed(each))) process.exitCode = 1;
