/** `espfix replay`: a saved finding again, instruction by instruction. Exit 1 where it shows again. */
import { openSubject } from '../check/check-subject.ts';
import type { Story, Violation } from '../check/finding.ts';
import { describeSchedule, describeVisit, highlights, printable } from '../check/report/check-report.ts';
import { columns, stepLines } from '../check/report/text.ts';
import { Revisits } from '../check/revisit.ts';
import type { Subject } from '../check/subject.ts';
import { colorsFor } from './colors.ts';
import { CLEAN, FINDINGS } from './exit-status.ts';
import { UserError } from './failure.ts';
import { loadFinding, type SavedFinding } from './finding-file.ts';
import type { Io } from './io.ts';
import { type Prepared, prepare, specName, subjectFailure } from './subject-spec.ts';
import { tellSaved } from './tell.ts';
import { attachTrace } from './trace.ts';

export interface ReplayCommandOptions {
  /** Shows everything up to this boundary, and the registers there. */
  readonly to?: number;
  readonly trace?: string;
  /** The image, where it is elsewhere now. */
  readonly image?: string;
}

/** Steps shown before and after an event. */
const BEFORE = 8;
const AFTER = 24;
const MOST = 20_000;

/** Replays and prints; returns the exit status. */
export async function replay(file: string, options: ReplayCommandOptions, io: Io): Promise<number> {
  const finding = await loadFinding(file);
  const prepared = await prepare(specOf(finding, options));
  refuseOthers(file, finding, prepared);
  const { subject } = prepared.planned;
  const revisits = new Revisits(subject, finding.stacks);
  const { to, trace } = options;
  try {
    const { story, registers, ...whole } = tellSaved(revisits, subject, finding, {
      most: MOST,
      ...(to !== undefined && { to }),
      ...(trace !== undefined && {
        watch: (machine) => {
          const attached = attachTrace(machine, trace);
          return () => attached.close();
        },
      }),
    });
    // Where it was stopped it has yet to be judged.
    const violations = [
      ...(whole.violations ?? tellSaved(revisits, subject, finding, { most: 1 }).violations ?? []),
    ];
    const same = ({ property, what }: Violation) => property === finding.property && what === finding.what;
    if (finding.property === 'kernel-bits' && finding.schedule.length === 0 && !violations.some(same))
      violations.push(...betweenWorlds(subject, finding));
    const again = violations.find(same);
    const style = colorsFor(io);
    const lines = [
      style.bold(`${subject.name}: ${finding.property}: ${finding.what}`),
      `${describeSchedule(finding.schedule)}, in ${describeVisit(finding.visit)}`,
      '',
      ...(story ? storyLines(printable(story), to, style) : []),
      ...(to === undefined ? [] : ['', ...registerLines(registers)]),
      '',
      again
        ? style.red(`shows again: ${finding.property}: ${finding.what}`)
        : style.green('does not show: the kernel survives this schedule now'),
      ...(again?.details ?? []).map((line) => `  ${printable(line)}`),
      ...violations
        .filter((one) => one !== again)
        .map(({ property, what }) => `also: ${property}: ${printable(what)}`),
    ];
    io.stdout.write(`${lines.join('\n')}\n`);
    return again ? FINDINGS : CLEAN;
  } catch (error) {
    throw subjectFailure(specName(prepared.spec), error);
  }
}

function specOf({ spec }: SavedFinding, { image }: ReplayCommandOptions) {
  if (image === undefined) return spec;
  if (spec.kind === 'builtin')
    throw new UserError(`--image: the finding is of the built-in kernel ${spec.variant}`);
  return { ...spec, file: image };
}

/** What only a second world shows takes watching both. */
function betweenWorlds(subject: Subject, { visit }: SavedFinding): readonly Violation[] {
  if (!subject.twin) return [];
  const { findings } = openSubject(subject).exploreVisit(visit.id, { depth: 0 });
  return findings.filter(({ property }) => property === 'kernel-bits');
}

function refuseOthers(file: string, { digests }: SavedFinding, prepared: Prepared): void {
  const names = {
    image: specName(prepared.spec),
    plan: prepared.spec.plan ?? 'the plan',
    initrd: 'the initial RAM disk',
  };
  for (const part of ['image', 'plan', 'initrd'] as const)
    if (digests[part] !== prepared.digests[part])
      throw new UserError(`${file}: ${names[part]} is not the one that was checked: its SHA-256 differs`);
}

function storyLines(story: Story, to: number | undefined, style: ReturnType<typeof colorsFor>): string[] {
  const shown = to === undefined ? highlights(story, BEFORE, AFTER) : story.steps;
  return [...stepLines(shown, style), `        ${story.ending}, at ${story.end.name}: ${story.end.text}`];
}

function registerLines(registers: Record<string, bigint>): string[] {
  const cells = Object.entries(registers).map(([name, value]) => `${name}=${value.toString(16)}`);
  const rows: string[][] = [];
  for (let i = 0; i < cells.length; i += 4) rows.push(cells.slice(i, i + 4));
  return columns(rows);
}
