/**
 * The check finds the fault of every kernel of the gallery and none of the sound kernel in the same cases; every schedule
 * that it reports shows the same when it is run again; and docs/gallery.md says just that.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type GalleryName, gallery } from '../kernel/variants/gallery/index.ts';
import type { PropertyName, Violation } from './finding.ts';
import { type Examined, examine, galleryEntry, isSoundClean, isTold } from './gallery.ts';
import { galleryPage, headOf } from './report/gallery-page.ts';

const TIMEOUT = 120_000;

/** The property that fails, and where events strike, or the number of preemptions. */
const shown: Record<GalleryName, readonly [PropertyName | undefined, ...(string | number)[]]> = {
  'cve-2014-8133': ['kernel-bits'],
  'cve-2014-9322': ['gs'],
  'cve-2015-3290': ['gs', 'NMI at on_ministack'],
  'cve-2015-3291': ['progress', 'NMI at syscall_entry'],
  'cve-2015-5157': ['transparent', 'NMI at vector.11'],
  'cve-2012-0217': ['stack'],
  'cve-2018-8897': ['gs', '#DB held off by MOV SS at target.32.int80'],
  'iret-in-nmi': ['stack', 'NMI at vector.128', 'NMI at handle_traced_nmi+0x2'],
  'swapgs-by-cs-nmi': ['gs', 'NMI at vector.128'],
  'swapgs-by-cs-mc': ['gs', '#MC at vector.128'],
  'nmi-without-ist': ['transparent', 'NMI at on_ministack'],
  'df-without-ist': ['progress'],
  'ministack-40': ['ministack'],
  'ministack-shared': ['ministack', 0],
  'writable-aliases': ['ministack'],
  'forgotten-return': ['kernel-bits'],
  'tables-published-early': ['progress', 1],
  'static-bool': ['ministack', 1],
  'static-bool-early': ['progress', 1],
  'set-up-own-cpu': ['progress', 0],
  'set-up-at-modify-ldt': [undefined],
};

const results = new Map<GalleryName, Examined>();
function resultOf(name: GalleryName): Examined {
  const examined = results.get(name) ?? examine(galleryEntry(name));
  results.set(name, examined);
  return examined;
}

describe.each(gallery)('$name', ({ name, property, events, cpus, at }) => {
  it(
    'is told from the sound kernel, by the property and the schedule that are known',
    () => {
      const examined = resultOf(name);
      const { visits, interleavings } = examined;
      const found = visits?.shown
        ? visits.shown.finding.struck.map(({ event, place }) => `${event} at ${place.name}`)
        : interleavings?.shown
          ? [interleavings.shown.finding.preemptions]
          : [];
      expect([property, ...found]).toEqual(shown[name]);
      expect(isTold(examined)).toBe(true);
      expect(isSoundClean(examined)).toBe(true);
    },
    TIMEOUT,
  );

  it(
    'every schedule shows the same again',
    () => {
      const { visits, interleavings } = resultOf(name);
      const replayed = [...(visits?.replayed ?? []), ...(interleavings?.replayed ?? [])];
      expect(replayed.length > 0).toBe(property !== undefined);
      const say = (each: Violation) => `${each.property}: ${each.what}`;
      for (const { finding, again } of replayed) expect(again.map(say)).toContain(say(finding));
    },
    TIMEOUT,
  );

  // The pairs of two events are too many for each to be listed.
  it.runIf(cpus === 1 && events.length === 1)(
    `is found at ${at}, too`,
    () => {
      const findings = resultOf(name).visits?.report.findings ?? [];
      const places = findings.flatMap(({ struck, alsoAt }) => [
        ...struck.map(({ place }) => place.name),
        ...alsoAt,
      ]);
      expect(places).toContain(at);
    },
    TIMEOUT,
  );
});

describe('docs/gallery.md', () => {
  it(
    'is what `npm run gallery` writes',
    () => {
      const source = (name: string) =>
        readFileSync(new URL(`../kernel/variants/gallery/${name}.ts`, import.meta.url), 'utf8');
      const heads = new Map(gallery.map(({ name }) => [name, headOf(source(name))]));
      for (const head of heads.values()) expect(head).toContain('**Difference:**');
      const page = readFileSync(new URL('../../docs/gallery.md', import.meta.url), 'utf8');
      expect(page).toBe(
        galleryPage(
          gallery.map(({ name }) => resultOf(name)),
          heads,
        ),
      );
    },
    TIMEOUT,
  );
});
