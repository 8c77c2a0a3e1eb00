/** Boots the kernel image of a variant on the machine, reads its report and gives the verdict. */
import { buildImage, type CaseInfo } from '../kernel/image.ts';
import {
  type AliasesLine,
  type CapacityLine,
  type CaseLine,
  type OopsLine,
  parseReport,
  type Report,
  ReportError,
  verdictOf,
} from '../kernel/report.ts';
import { type VariantName, type Verdict, variantInfo, variants } from '../kernel/variants/index.ts';
import { Machine, type Stop } from '../machine/machine.ts';
import { measureReturns } from './cost.ts';
import { type JudgedCase, judge } from './judge.ts';

export type { Verdict } from '../kernel/variants/index.ts';
export type { Found, JudgedCase } from './judge.ts';

export interface CheckOptions {
  /** Processors of the machine, 1 to 8; default 2. */
  readonly cpus?: number;
  /** Moves the kernel's stacks and ministacks; default 1. */
  readonly seed?: number;
  /** Told how many cases are done of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What a variant adds to a plain IRETQ return. Undefined where it never gets there. */
export interface Cost {
  /** Kernel instructions that a return to a flat stack takes more than with a plain IRET (`none`, `none-pae`). */
  readonly ordinaryReturn: number | undefined;
  /** The same for a return to a 16-bit stack. */
  readonly return16: number | undefined;
  /** Pages of page tables that only this variant needs. */
  readonly pageTablePages: number;
  /** Pages of ministacks. */
  readonly ministackPages: number;
}

/** A fault in the kernel that it could not explain, and where: `label+offset`. */
export interface Oops extends OopsLine {
  readonly at: string;
}

export interface CheckedVariant {
  readonly name: VariantName;
  readonly title: string;
  readonly description: string;
  readonly verdict: Verdict;
  /** The verdict that the variant is documented to get. */
  readonly documented: Verdict;
  readonly cpus: number;
  readonly cases: readonly JudgedCase[];
  /** Cases that the image should have run and did not report, for it died before. */
  readonly missing: number;
  readonly cost: Cost;
  readonly aliases: readonly AliasesLine[];
  readonly capacity: CapacityLine | undefined;
  readonly oopses: readonly Oops[];
  /** How the boot ended, in words; `completed` if the kernel reported to its end. */
  readonly ended: string;
}

/** Guest instructions without a new line of the report after which the kernel counts as hung. */
const PATIENCE = 400_000_000;
const SLICE = 2_000_000;

/** Checks one variant. Throws only if the machine or the image is at fault, never for what the variant does. */
export function checkVariant(name: VariantName, options: CheckOptions = {}): CheckedVariant {
  const { title, description, verdict: documented } = variantInfo(name);
  const cpus = options.cpus ?? 2;
  const image = buildImage(name, { cpus, seed: options.seed ?? 1 });
  const total = image.cases.length * cpus;
  const { text, stop } = bootToEnd(image.elf, cpus, (done) => options.onProgress?.(done, total));
  const { report, malformed } = readReport(text, name);
  const { cases, missing } = judgeAll(report?.cases ?? [], image.cases, cpus);
  const completed = report?.end !== undefined;
  const leaks = cases.filter((c) => !c.ok).map((c) => c.found === 'kernel');
  return {
    name,
    title,
    description,
    documented,
    verdict: report && missing === 0 ? verdictOf(report, leaks) : 'unsafe',
    cpus,
    cases,
    missing,
    cost: cost(name, report),
    aliases: report?.aliases ?? [],
    capacity: report?.capacity,
    oopses: (report?.oopses ?? []).map((oops) => ({ ...oops, at: symbolAt(oops.rip, image.symbols) })),
    ended: completed ? 'completed' : (malformed ?? describe(stop, image.symbols)),
  };
}

function bootToEnd(
  elf: Uint8Array,
  cpus: number,
  onCase: (done: number) => void,
): { text: string; stop: Stop } {
  const machine = Machine.create({ cpus });
  machine.boot(elf);
  let text = '';
  let line = '';
  let done = 0;
  let lines = 0;
  machine.serial.onOutput = (byte) => {
    const character = String.fromCharCode(byte);
    text += character;
    line += character;
    if (character !== '\n') return;
    lines++;
    if (line.startsWith('case ')) onCase(++done);
    line = '';
  };
  let seenLines = 0;
  let seenAt = 0;
  for (;;) {
    const stop = machine.run({ maxInstructions: SLICE });
    if (stop.reason === 'unimplemented')
      throw new Error(
        `the machine lacks an instruction that the kernel uses, at RIP 0x${stop.rip.toString(16)}`,
      );
    if (stop.reason !== 'limit') return { text, stop };
    if (lines > seenLines) {
      seenLines = lines;
      seenAt = machine.instructions;
    } else if (machine.instructions - seenAt > PATIENCE) return { text, stop };
  }
}

/** The report, up to the first line that is none, and what is wrong with that. No report without a header. */
export function readReport(text: string, name: string): { report: Report | undefined; malformed?: string } {
  try {
    const report = parseReport(text);
    if (report.variant !== name) throw new Error(`the image of ${name} calls itself ${report.variant}`);
    return { report };
  } catch (error) {
    if (!(error instanceof ReportError)) throw error;
    const before = text.slice(0, Math.max(0, text.indexOf(error.line)));
    return { report: before === '' ? undefined : readReport(before, name).report, malformed: error.message };
  }
}

/** Judges each reported case by the one that was built into the image, and counts those that never came. */
function judgeAll(
  lines: readonly CaseLine[],
  built: readonly CaseInfo[],
  cpus: number,
): { cases: JudgedCase[]; missing: number } {
  const key = (cpu: number, c: Omit<CaseInfo, 'expected'>) =>
    [cpu, c.path, c.cs, c.ss, c.set, c.name].join(' ');
  const wanted = new Map<string, CaseInfo[]>();
  for (let cpu = 0; cpu < cpus; cpu++)
    for (const c of built) wanted.set(key(cpu, c), [...(wanted.get(key(cpu, c)) ?? []), c]);
  const cases = lines.map((line) => judge(line, wanted.get(key(line.cpu, line))?.shift()));
  const missing = [...wanted.values()].reduce((sum, { length }) => sum + length, 0);
  return { cases, missing };
}

function cost(name: VariantName, report: Report | undefined): Cost {
  const own = measureReturns(name);
  const baseline = baselineOf(name);
  const plain = baseline === undefined ? undefined : name === baseline ? own : measureReturns(baseline);
  const added = (which: 'ordinary' | 'stack16') => {
    const [mine, base] = [own[which], plain?.[which]];
    return mine === undefined || base === undefined ? undefined : mine - base;
  };
  return {
    ordinaryReturn: added('ordinary'),
    return16: added('stack16'),
    pageTablePages: report?.pages?.tables ?? 0,
    ministackPages: report?.pages?.ministacks ?? 0,
  };
}

/** The variant of the same width that returns with a plain IRET. */
function baselineOf(name: VariantName): VariantName | undefined {
  const { bits } = variantInfo(name);
  return variants.find((v) => v.bits === bits && v.name.startsWith('none'))?.name;
}

function describe(stop: Stop, symbols: ReadonlyMap<string, bigint>): string {
  switch (stop.reason) {
    case 'triple-fault':
      return `triple fault at ${symbolAt(stop.rip, symbols)}`;
    case 'limit':
      return 'hung: no line of the report for 400 million instructions';
    case 'deadlock':
      return `deadlock: ${stop.message}`;
    case 'exit':
      return `left with status ${stop.status} before the end of its report`;
    default:
      return stop.reason;
  }
}

/** `label+offset` of an address, by the nearest label below it. */
export function symbolAt(address: bigint, symbols: ReadonlyMap<string, bigint>): string {
  let best: [string, bigint] | undefined;
  for (const [name, value] of symbols)
    if (value <= address && (best === undefined || value > best[1])) best = [name, value];
  if (best === undefined) return `0x${address.toString(16)}`;
  const offset = address - best[1];
  return offset === 0n ? best[0] : `${best[0]}+0x${offset.toString(16)}`;
}
