/**
 * `espfix check` with an image, a plan or a depth: explores kernels in worker threads, keeps a journal, and reports.
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mergeReports, type VisitResult } from '../check/check-subject.ts';
import { type EventKind, eventKinds } from '../check/event.ts';
import type { Finding, SubjectReport } from '../check/finding.ts';
import type { CheckReport, ReportedSubject, Told } from '../check/report/check-report.ts';
import { printable, titleOf, verdictOf } from '../check/report/check-report.ts';
import { colorsFor } from './colors.ts';
import { estimate } from './estimate.ts';
import { CLEAN, FINDINGS, INCONCLUSIVE, INTERRUPTED } from './exit-status.ts';
import { type Runner, startRunner } from './explore-runner.ts';
import type {
  ExploreSettings,
  PieceProgress,
  Recordings,
  Survey,
  SurveyedVisit,
  VisitWork,
  World,
} from './explore-work.ts';
import { UserError } from './failure.ts';
import { expectWritable, makeFolder, writeOutput } from './files.ts';
import { findingFile, type SavedFinding, saveFinding } from './finding-file.ts';
import { refuseWithoutHandler } from './handlers.ts';
import type { Io } from './io.ts';
import { Journal, type JournalKey } from './journal.ts';
import { type Progress, startProgress } from './progress.ts';
import { isThere } from './recording-file.ts';
import {
  allFrames,
  describeMachine,
  imageNameOf,
  type Prepared,
  prepare,
  type SubjectSpec,
  specName,
} from './subject-spec.ts';
import { packageVersion } from './version.ts';

export const formats = ['text', 'json', 'junit', 'sarif', 'html'] as const;
export type Format = (typeof formats)[number];

export interface ExploreCommandOptions {
  readonly variant?: readonly string[];
  readonly plan?: string;
  readonly depth?: number;
  readonly events?: string;
  readonly format: Format;
  readonly output?: string;
  readonly coverage?: boolean;
  readonly jobs?: number;
  readonly journal?: string;
  readonly resume?: string;
  readonly save?: string;
  readonly frames?: 'one' | 'all';
  readonly cpus?: number;
  readonly memory?: number;
  readonly cpu?: string;
  readonly append?: string;
  readonly initrd?: string;
  readonly symbols?: string;
  readonly linux?: string;
  readonly patch?: readonly string[];
  readonly snapshot?: string;
  readonly patience?: number;
}

/**
 * Boundaries of a visit that are one piece of work, at least, and pieces of a visit, at most: each piece costs a run of
 * the whole visit before its first experiment.
 */
const PIECE = 512;
const MOST_PIECES = 8;
/** Findings whose story is told. */
const MOST_STORIES = 40;

/** Explores and prints; returns the exit status. */
export async function explore(
  image: string | undefined,
  options: ExploreCommandOptions,
  io: Io,
): Promise<number> {
  const specs = specsOf(image, options);
  const events = options.events === undefined ? undefined : eventsOf(options.events);
  // What the end of a long work needs is seen to before it.
  if (options.output !== undefined) await expectWritable(options.output);
  if (options.save !== undefined) await makeFolder(options.save);
  const booted = specs.flatMap((spec) => (spec.kind === 'linux' && spec.booted) || []);
  try {
    return await exploreSpecs(specs, events, options, io);
  } finally {
    // Nobody asked to keep it.
    if (options.snapshot === undefined) for (const file of booted) rmSync(file, { force: true });
  }
}

async function exploreSpecs(
  specs: readonly SubjectSpec[],
  events: readonly EventKind[] | undefined,
  options: ExploreCommandOptions,
  io: Io,
): Promise<number> {
  const prepared: Prepared[] = [];
  for (const spec of specs) {
    const progress = spec.kind === 'linux' ? await startProgress(io, `booting ${spec.file}`) : undefined;
    try {
      prepared.push(await prepare(spec));
    } finally {
      progress?.end();
    }
  }
  for (const { spec, planned } of prepared)
    refuseWithoutHandler(specName(spec), planned.subject, events ?? planned.subject.events);
  const check = new Check(prepared, events, options, io, await packageVersion());
  return check.run();
}

function specsOf(image: string | undefined, options: ExploreCommandOptions): SubjectSpec[] {
  const plan = options.plan === undefined ? {} : { plan: options.plan };
  const { linux, patch, patience } = options;
  if (image !== undefined || linux !== undefined) {
    if (image !== undefined && linux !== undefined)
      throw new UserError('expected an image or --linux, not both');
    if (options.variant) throw new UserError('expected an image or --variant, not both');
    if (options.frames !== undefined) throw new UserError('--frames: only with --variant');
    const files = {
      ...plan,
      ...(options.cpus !== undefined && { cpus: options.cpus }),
      ...(options.memory !== undefined && { memory: options.memory }),
      ...(options.cpu !== undefined && { cpu: options.cpu }),
      ...(options.append !== undefined && { commandLine: options.append }),
      ...(options.initrd !== undefined && { initrd: options.initrd }),
      ...(options.symbols !== undefined && { symbols: options.symbols }),
    };
    if (linux !== undefined)
      return [
        {
          kind: 'linux',
          file: linux,
          ...files,
          ...(patch && { patches: patch }),
          ...(patience !== undefined && { patience }),
          booted: options.snapshot ?? temporary('booted'),
        },
      ];
    refuseGiven(options, ['patch', 'snapshot', 'patience'], '--linux');
    return [{ kind: 'image', file: image as string, ...files }];
  }
  refuseGiven(options, ['memory', 'cpu', 'append', 'initrd', 'symbols'], 'an image');
  refuseGiven(options, ['patch', 'snapshot', 'patience'], '--linux');
  if (!options.variant) throw new UserError('expected an image or --variant: what is to be explored');
  const names = [...new Set(options.variant.map(imageNameOf))];
  if (options.plan !== undefined && names.length > 1)
    throw new UserError('--plan: expected one variant with it');
  if (options.frames === 'all') {
    const { cpus = 2 } = options;
    if (cpus < 2) throw new UserError('--cpus: expected 2 or more with --frames all');
    return names.flatMap((variant) => allFrames(variant, cpus).map((spec) => ({ ...spec, ...plan })));
  }
  return names.map((variant) => ({ kind: 'builtin', variant, cpus: options.cpus ?? 1, ...plan }));
}

function refuseGiven(
  options: ExploreCommandOptions,
  names: readonly (keyof ExploreCommandOptions)[],
  where: string,
): void {
  for (const name of names)
    if (options[name] !== undefined) throw new UserError(`--${name}: only with ${where}`);
}

/** A file of this run. */
function temporary(kind: string): string {
  return join(tmpdir(), `espfix-${process.pid}-${Math.random().toString(36).slice(2, 10)}.${kind}`);
}

function eventsOf(list: string): EventKind[] {
  return list.split(',').map((name) => {
    const found = eventKinds.find((kind) => kind === name.trim());
    if (!found) throw new UserError(`--events: "${name.trim()}" is none of ${eventKinds.join(', ')}`);
    return found;
  });
}

/** One subject of the check. */
interface Part {
  readonly prepared: Prepared;
  readonly settings: ExploreSettings;
  readonly results: Map<string, VisitResult>;
  survey: Survey | undefined;
}

/** A piece of work, and how its result is named in the journal. */
interface Piece {
  readonly name: string;
  readonly id: number;
  readonly range: readonly [number, number];
  readonly weight: number;
}

class Check {
  readonly #parts: readonly Part[];
  readonly #options: ExploreCommandOptions;
  readonly #io: Io;
  readonly #version: string;
  readonly #stop = new SharedArrayBuffer(4);
  #interrupted = false;
  #journal: Journal | undefined;
  /** A journal that nobody asked for, kept only where the work is not ended. */
  #temporary = false;
  readonly #known = new Set<string>();
  /** Why a finding could not be saved: to be told after the report. */
  #unsaved: unknown;

  constructor(
    prepared: readonly Prepared[],
    events: readonly EventKind[] | undefined,
    options: ExploreCommandOptions,
    io: Io,
    version: string,
  ) {
    this.#options = options;
    this.#io = io;
    this.#version = version;
    this.#parts = prepared.map((one) => {
      const { subject, depth, without, most, turns } = one.planned;
      return {
        prepared: one,
        results: new Map(),
        survey: undefined,
        settings: {
          depth: options.depth ?? depth ?? 1,
          events: events ?? subject.events,
          without,
          ...(most !== undefined && { most }),
          ...(turns !== undefined && { turns }),
        },
      };
    });
  }

  async run(): Promise<number> {
    const io = this.#io;
    this.#openJournal();
    const progress = await startProgress(
      io,
      `exploring ${this.#parts.map((part) => part.prepared.planned.subject.name).join(', ')}`,
    );
    const runner = startRunner(this.#options.jobs);
    const forget = io.onInterrupt(() => {
      // At the second wish nothing more is waited for.
      if (this.#interrupted) process.exit(INTERRUPTED);
      this.#interrupted = true;
      Atomics.store(new Int32Array(this.#stop), 0, 1);
    });
    let report: CheckReport | undefined;
    try {
      for (const [i, part] of this.#parts.entries()) {
        if (this.#interrupted) break;
        await this.#explore(part, i, runner, progress);
      }
      progress.update('telling the stories of what was found');
      report = await this.#report();
    } finally {
      forget();
      progress.end();
      await runner.end();
      this.#journal?.close();
      if (!report) this.#forgetJournal();
    }
    await this.#print(report);
    const status = this.#finish(report);
    if (this.#unsaved !== undefined) throw this.#unsaved;
    return status;
  }

  #openJournal(): void {
    const { journal, resume } = this.#options;
    if (resume !== undefined && journal !== undefined)
      throw new UserError('expected --journal or --resume, not both');
    if (resume !== undefined) this.#journal = Journal.resume(resume, this.#key());
    else {
      this.#temporary = journal === undefined;
      this.#journal = Journal.create(journal ?? temporary('journal'), this.#key());
    }
  }

  #key(): JournalKey {
    const list = (texts: readonly (string | number | undefined)[]) =>
      texts.map((text) => text ?? '-').join(' ');
    const each = (of: (part: Part) => string | number | undefined) => list(this.#parts.map(of));
    return {
      'version of espfix': this.#version,
      kernel: each((part) => specName(part.prepared.spec)),
      image: each((part) => part.prepared.digests.image),
      plan: each((part) => part.prepared.digests.plan),
      'initial RAM disk': each((part) => part.prepared.digests.initrd),
      machine: each(({ prepared: { planned } }) => describeMachine(planned.subject)),
      'changes of the kernel': each(({ prepared: { spec } }) =>
        spec.kind === 'linux' ? (spec.patches ?? []).join(',') : '',
      ),
      'command line': each((part) => JSON.stringify(part.prepared.planned.subject.commandLine ?? '')),
      depth: each((part) => part.settings.depth),
      events: each((part) => part.settings.events.join(',')),
      vectors: each((part) => part.prepared.planned.subject.vectors.join(',')),
    };
  }

  async #explore(part: Part, index: number, runner: Runner, progress: Progress): Promise<void> {
    const { prepared, settings } = part;
    const { spec } = prepared;
    const { name } = prepared.planned.subject;
    const journal = this.#journal;
    const names = { survey: `${index}`, recordings: `${index}/recordings` };
    part.survey = journal?.results.get(names.survey) as Survey | undefined;
    let recordings = journal?.results.get(names.recordings) as Recordings | undefined;
    const resumed = part.survey !== undefined;
    const watch = async () => {
      progress.update(`${name}: booting and watching`);
      const { survey, saved } = await this.#watch(part, index, runner);
      part.survey = survey;
      recordings = saved;
      if (!resumed) journal?.add(names.survey, survey);
      journal?.add(names.recordings, saved);
    };
    if (!part.survey) await watch();
    const survey = part.survey as Survey;
    refuseUnreached(name, survey);
    const pieces = piecesOf(survey, index, settings.depth);
    const left = pieces.filter((piece) => {
      const known = journal?.results.get(piece.name) as VisitResult | undefined;
      if (known) part.results.set(piece.name, known);
      return !known;
    });
    if (left.length === 0) return;
    if (resumed) {
      const there = recordings && Object.values(recordings).every(isThere);
      progress.note(
        `${printable(name)}: ${pieces.length - left.length} of ${pieces.length} pieces of work are done` +
          `${there ? '' : '; its recording is gone: it is booted and watched again'}`,
      );
      if (!there) await watch();
    }
    const total = left.reduce((sum, piece) => sum + piece.weight, 0);
    const running = new Map<string, PieceProgress>();
    let done = 0;
    let experiments = 0;
    const from = performance.now();
    const tell = () => {
      const now = [...running.values()];
      const tried = now.reduce((sum, one) => sum + one.experiments, experiments);
      const share = now.reduce((sum, { boundaries }) => sum + boundaries, done);
      progress.update(
        `${name}: ${Math.floor((100 * share) / Math.max(1, total))}%, ${tried} experiments, ` +
          `${this.#known.size} findings${estimate(performance.now() - from, share, total)}`,
      );
    };
    await Promise.all(
      left.map(async ({ name: piece, id, range, weight }) => {
        if (this.#interrupted) return;
        const { result, stopped }: VisitWork = await runner.visit(
          {
            kind: 'visit',
            spec,
            recordings: recordings ?? {},
            stacks: survey.stacks,
            id,
            range,
            settings,
            stop: this.#stop,
          },
          (one) => {
            running.set(piece, one);
            tell();
          },
        );
        running.delete(piece);
        done += weight;
        experiments += result.report.experiments;
        // What had not begun when the end was wished for has nothing to say.
        if (stopped && result.report.experiments === 0) return;
        part.results.set(piece, result);
        if (!stopped) journal?.add(piece, result);
        for (const finding of result.findings) this.#announce(finding, progress);
        tell();
      }),
    );
  }

  /** Boots and watches a subject, and its second world beside it if that will be compared with. */
  async #watch({ prepared, settings }: Part, index: number, runner: Runner) {
    const { spec, planned } = prepared;
    const task = (world: World) =>
      ({ kind: 'survey', spec, world, file: this.#recording(index, world) }) as const;
    const compared = planned.subject.twin !== undefined && !settings.without.includes('kernel-bits');
    const [own, twin] = await Promise.all([
      runner.survey(task('own')),
      compared ? runner.survey(task('twin')) : undefined,
    ]);
    const saved: Recordings = { own: own.saved, ...(twin && { twin: twin.saved }) };
    return { survey: own.survey, saved };
  }

  /** A line as soon as something is found. */
  #announce(finding: Finding, progress: Progress): void {
    const cause = `${finding.subject}: ${titleOf(finding)}`;
    if (this.#known.has(cause)) return;
    this.#known.add(cause);
    const [first] = finding.struck;
    progress.note(printable(`found in ${cause}${first ? ` (${first.event} at ${first.place.name})` : ''}`));
  }

  async #report(): Promise<CheckReport> {
    const subjects: ReportedSubject[] = [];
    for (const part of this.#parts) {
      const { survey, prepared, settings } = part;
      if (!survey) continue;
      const { subject } = prepared.planned;
      const selected = new Set(survey.selected);
      const names = piecesOf(survey, 0, settings.depth).map(({ id, range }) => `${id}:${range[0]}`);
      const order = new Map(names.map((name, i) => [name, i]));
      // In the order of visits, whichever came first.
      const results = [...part.results]
        .sort(
          ([a], [b]) => (order.get(a.replace(/^\d+\//, '')) ?? 0) - (order.get(b.replace(/^\d+\//, '')) ?? 0),
        )
        .map(([, result]) => result);
      const merged = mergeReports(
        subject,
        { ...survey, visits: survey.visits.filter(({ id }) => selected.has(id)) },
        results,
        settings,
      );
      const report: SubjectReport = { ...merged, notes: [...merged.notes, ...this.#notes(part, survey)] };
      subjects.push({
        report,
        ...(prepared.spec.kind !== 'builtin' && { file: prepared.spec.file }),
        told: await this.#tell(part, survey, report),
      });
    }
    return { version: this.#version, subjects };
  }

  #notes({ settings, results, prepared }: Part, survey: Survey): string[] {
    const notes: string[] = [...prepared.notes];
    const left = survey.visits.length - survey.selected.length;
    if (left > 0)
      notes.push(
        `${left} of ${survey.visits.length} visits are not selected${prepared.spec.plan === undefined ? '' : ' by the plan'}`,
      );
    if (survey.ended === 'limit')
      notes.push(
        `the kernel was watched for ${prepared.planned.subject.watch.toLocaleString('en-US')} instructions and had not ended`,
      );
    const pieces = piecesOf(survey, 0, settings.depth);
    if (results.size < pieces.length)
      notes.push(`${pieces.length - results.size} of ${pieces.length} pieces of work were not done`);
    return notes;
  }

  /** Stories, and files with `--save`. */
  async #tell({ prepared, results }: Part, survey: Survey, report: SubjectReport): Promise<Told[]> {
    const { save } = this.#options;
    const { findings } = report;
    if (findings.length === 0) return [];
    const [{ Revisits }, { tellSaved }] = await Promise.all([
      import('../check/revisit.ts'),
      import('./tell.ts'),
    ]);
    const revisits = new Revisits(prepared.planned.subject, survey.stacks);
    const saved = findings.map((finding): SavedFinding => {
      const visit = survey.visits.find(
        ({ id, start }) => id === finding.visit.id && start === finding.visit.start,
      );
      return {
        spec: prepared.spec,
        digests: prepared.digests,
        visit: addressOf(finding, visit),
        fails: visit === undefined,
        schedule: finding.schedule,
        property: finding.property,
        what: finding.what,
        details: finding.details,
        stacks: survey.stacks,
      };
    });
    const told: Told[] = findings.map(() => ({}));
    // In the order of their visits: the machine goes forward only.
    const order = findings.map((_, i) => i).slice(0, MOST_STORIES);
    order.sort((a, b) => findings[a].visit.start - findings[b].visit.start);
    for (const i of order) {
      if (this.#interrupted && results.size === 0) break;
      const story = tellSaved(revisits, prepared.planned.subject, saved[i], { most: 600 }).story;
      told[i] = { ...told[i], ...(story && { story }) };
    }
    if (save === undefined) return told;
    for (const [i, finding] of saved.entries()) {
      const file = findingFile(save, report.subject, i + 1);
      try {
        await saveFinding(file, finding, this.#version);
      } catch (error) {
        this.#unsaved = error;
        break;
      }
      told[i] = { ...told[i], replay: `espfix replay ${quoted(file)}` };
    }
    return told;
  }

  async #print(report: CheckReport): Promise<void> {
    const io = this.#io;
    const { output } = this.#options;
    const text = await formatted(report, this.#options, output === undefined ? io : undefined);
    if (output === undefined) io.stdout.write(text);
    else await writeOutput(output, new TextEncoder().encode(text));
  }

  /** Removes a journal that nobody asked for, and the recordings beside it. */
  #forgetJournal(): void {
    const journal = this.#journal;
    if (!journal || !this.#temporary) return;
    rmSync(journal.file, { force: true });
    for (const i of this.#parts.keys())
      for (const world of ['own', 'twin'] as const) rmSync(this.#recording(i, world), { force: true });
  }

  #recording(index: number, world: World): string {
    return `${this.#journal?.file}.${index}.${world}`;
  }

  #finish({ subjects }: CheckReport): number {
    const journal = this.#journal;
    const complete = subjects.length === this.#parts.length && !this.#interrupted;
    if (complete) this.#forgetJournal();
    if (this.#interrupted) {
      this.#io.stderr.write(
        `espfix: interrupted; the same command with --resume ${quoted(journal?.file ?? '')} in place of any --journal goes on\n`,
      );
      return INTERRUPTED;
    }
    return { clean: CLEAN, findings: FINDINGS, inconclusive: INCONCLUSIVE }[
      verdictOf(subjects.map(({ report }) => report))
    ];
  }
}

/** A word of a shell's command line. */
const quoted = (text: string) =>
  /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

function addressOf(finding: Finding, visit: SurveyedVisit | undefined) {
  const { id, cpu, entry, start, boundaries, occurrences } = finding.visit;
  return {
    id,
    cpu,
    entry,
    start,
    boundaries,
    occurrences,
    ...(visit?.trigger && { trigger: visit.trigger }),
  };
}

function refuseUnreached(name: string, { reachedUser, ended, visits, failures }: Survey): void {
  if (visits.length > 0 || failures.length > 0) return;
  const how = ended === 'limit' ? 'the watching ended' : `it ended by ${ended}`;
  throw new UserError(
    reachedUser
      ? `${name}: never enters the kernel from user mode and comes back before ${how}: nothing to check`
      : `${name}: never reaches user mode before ${how}`,
  );
}

/** The work that a survey asks for, the longest pieces first. */
function piecesOf({ visits, selected }: Survey, index: number, depth: number): Piece[] {
  const wanted = new Set(selected);
  return visits
    .filter(({ id }) => wanted.has(id))
    .flatMap(({ id, boundaries }) => {
      const parts = depth === 0 ? 1 : Math.min(MOST_PIECES, Math.max(1, Math.round(boundaries / PIECE)));
      const size = Math.ceil(boundaries / parts);
      return Array.from({ length: parts }, (_, k): Piece => {
        const from = k * size;
        // The last one takes what user mode adds after the return.
        const to = k === parts - 1 ? Number.MAX_SAFE_INTEGER : from + size;
        return {
          name: `${index}/${id}:${from}`,
          id,
          range: [from, to],
          weight: size * (depth > 1 ? boundaries : 1),
        };
      });
    })
    .sort((a, b) => b.weight - a.weight || a.id - b.id || a.range[0] - b.range[0]);
}

async function formatted(
  report: CheckReport,
  options: ExploreCommandOptions,
  terminal: Io | undefined,
): Promise<string> {
  switch (options.format) {
    case 'text': {
      const { textReport } = await import('../check/report/text.ts');
      return textReport(report, {
        coverage: options.coverage ?? false,
        ...(terminal && { style: colorsFor(terminal) }),
      });
    }
    case 'json':
      return `${JSON.stringify((await import('../check/report/json.ts')).reportJson(report), null, 2)}\n`;
    case 'junit':
      return (await import('../check/report/junit.ts')).junitReport(report);
    case 'sarif':
      return `${JSON.stringify((await import('../check/report/sarif.ts')).sarifReport(report), null, 2)}\n`;
    case 'html':
      return (await import('../check/report/html.ts')).htmlReport(report);
  }
}
