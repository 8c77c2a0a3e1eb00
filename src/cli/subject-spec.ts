/** Which kernel is meant: plain data, from which any thread, and any later run, makes the same subject. */
import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { PatchError } from '../check/linux/patch-error.ts';
import { applyPlan, type Plan, type PlannedCheck } from '../check/plan.ts';
import type { Subject } from '../check/subject.ts';
import { SubjectError } from '../check/subject-error.ts';
import { SymbolError } from '../check/symbols/symbol-error.ts';
import { galleryNames, type ImageName } from '../kernel/variants/gallery/names.ts';
import { variantNames } from '../kernel/variants/index.ts';
import { ImageError } from '../machine/boot/image-error.ts';
import { LINUX_MEMORY } from '../machine/limits.ts';
import { loadBooted, saveBooted } from './booted-file.ts';
import { fileError, UserError } from './failure.ts';
import { readInput } from './files.ts';
import { loadPlan } from './plan-file.ts';

export interface BuiltinSpec {
  readonly kind: 'builtin';
  readonly variant: ImageName;
  readonly cpus: number;
  /** Where in its page CPU 0's ministack is; default: where the seed puts it. */
  readonly slot?: 'first' | 'last';
  /** Default 1. */
  readonly seed?: number;
  /** A plan's file. */
  readonly plan?: string;
}

export interface ImageSpec {
  readonly kind: 'image';
  readonly file: string;
  /** These four over what the plan says. */
  readonly cpus?: number;
  readonly memory?: number;
  readonly cpu?: string;
  readonly commandLine?: string;
  readonly initrd?: string;
  readonly symbols?: string;
  readonly plan?: string;
}

/** A Linux kernel, for its returns to 16-bit stack segments. */
export interface LinuxSpec extends Omit<ImageSpec, 'kind'> {
  readonly kind: 'linux';
  /** Changes of its code in memory, as they were written. */
  readonly patches?: readonly string[];
  /** Instructions within which its /init must be ready. */
  readonly patience?: number;
  /** Where the booted system is kept: a file that is read, or written where there is none. */
  readonly booted?: string;
}

export type SubjectSpec = BuiltinSpec | ImageSpec | LinuxSpec;

/** What a spec stands for. */
export interface Prepared {
  readonly spec: SubjectSpec;
  readonly planned: PlannedCheck;
  /** What the image and the plan give by themselves. */
  readonly inferred: Subject;
  /** What was done to the subject, in words. */
  readonly notes: readonly string[];
  /** SHA-256 in hexadecimal digits, of what there is. */
  readonly digests: { readonly image: string; readonly plan?: string; readonly initrd?: string };
}

/** Of the random ministack: not the default. */
const OTHER_SEED = 2;

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The variant, or the kernel of the gallery, of that name; a UserError names those that there are. */
export function imageNameOf(name: string): ImageName {
  const names: readonly ImageName[] = [...variantNames, ...galleryNames];
  const found = names.find((one) => one === name);
  if (!found) throw new UserError(`--variant ${name}: unknown, expected one of ${names.join(', ')}`);
  return found;
}

/** How messages name what a spec stands for. */
export function specName(spec: SubjectSpec): string {
  if (spec.kind !== 'builtin') return spec.file;
  const { variant, cpus, slot, seed } = spec;
  if (slot === undefined && seed === undefined) return variant;
  return `${variant}, ${slot ?? 'random'} ministack, ${cpus} ${cpus === 1 ? 'processor' : 'processors'}`;
}

/** `--frames all`: the first ministack of a page, the last and a random one; with one processor and with several. */
export function allFrames(variant: ImageName, cpus: number): BuiltinSpec[] {
  const each = [
    { slot: 'first', cpus: 1 },
    { slot: 'last', cpus },
    { seed: OTHER_SEED, cpus },
  ] as const;
  return each.map((one) => ({ kind: 'builtin', variant, ...one }));
}

/** Reads the files and makes the subject. Throws a UserError or PlanError for what is wrong with them. */
export async function prepare(spec: SubjectSpec): Promise<Prepared> {
  const planBytes = spec.plan === undefined ? undefined : await readInput(spec.plan);
  const plan: Plan = spec.plan === undefined ? {} : await loadPlan(spec.plan);
  const { subject, initrd, notes, standard } = await made(spec, plan);
  return {
    spec,
    planned: applyPlan(subject, plan, spec.plan ?? '', standard),
    inferred: subject,
    notes: notes ?? [],
    digests: {
      image: sha256(subject.image),
      ...(planBytes && { plan: sha256(planBytes) }),
      ...(initrd && { initrd: sha256(initrd) }),
    },
  };
}

interface Made {
  readonly subject: Subject;
  readonly initrd?: Uint8Array | undefined;
  readonly notes?: readonly string[];
  /** Which visits are explored, where the plan does not say. */
  readonly standard?: Plan['visits'];
}

async function made(spec: SubjectSpec, plan: Plan): Promise<Made> {
  switch (spec.kind) {
    case 'builtin':
      return { subject: await builtin(spec) };
    case 'image':
      return image(spec, plan);
    case 'linux':
      return linux(spec, plan);
  }
}

async function builtin(spec: BuiltinSpec): Promise<Subject> {
  const { builtinSubject } = await import('../check/builtin.ts');
  const { variant, cpus, slot, seed } = spec;
  const placed = { ...(slot !== undefined && { slot }), ...(seed !== undefined && { seed }) };
  return { ...builtinSubject(variant, { cpus, ...placed }), name: specName(spec) };
}

/** The machine of a subject, in words. */
export function describeMachine({ cpus, memory, cpu }: Pick<Subject, 'cpus' | 'memory' | 'cpu'>): string {
  return [`${cpus} processors`, `${memory} MiB`, ...(cpu === undefined ? [] : [cpu])].join(', ');
}

/** The files of an image. */
async function filesOf(spec: ImageSpec | LinuxSpec, plan: Plan) {
  // Files that the plan names lie where it lies.
  const beside = (name: string) => resolve(dirname(spec.plan ?? '.'), name);
  const { machine } = plan;
  const initrdFile = spec.initrd ?? (machine?.initrd === undefined ? undefined : beside(machine.initrd));
  const cpu = spec.cpu ?? machine?.cpu;
  if (cpu !== undefined) {
    const { checkModel } = await import('./cpu-option.ts');
    checkModel(cpu, spec.cpu === undefined ? `${spec.plan}: machine.cpu:` : '--cpu');
  }
  const symbolFile = spec.symbols ?? (plan.symbols === undefined ? undefined : beside(plan.symbols));
  return {
    bytes: await readInput(spec.file),
    initrd: initrdFile === undefined ? undefined : await readInput(initrdFile),
    symbols: symbolFile === undefined ? undefined : await readInput(symbolFile),
    symbolFile: symbolFile ?? spec.file,
    commandLine: spec.commandLine ?? machine?.commandLine,
    cpu,
  };
}

async function image(spec: ImageSpec, plan: Plan): Promise<Made> {
  const { file } = spec;
  const { machine } = plan;
  const { bytes, initrd, symbols, symbolFile, commandLine, cpu } = await filesOf(spec, plan);
  const { imageSubject } = await import('../check/foreign.ts');
  try {
    const subject = imageSubject(bytes, {
      name: file,
      cpus: spec.cpus ?? machine?.cpus ?? 1,
      memory: spec.memory ?? machine?.memory ?? 64,
      ...(cpu !== undefined && { cpu }),
      ...(commandLine !== undefined && { commandLine }),
      ...(initrd && { initrd }),
      ...(symbols && { symbols }),
      ...(plan.watch !== undefined && { watch: plan.watch }),
    });
    return { subject, initrd };
  } catch (error) {
    if (error instanceof SymbolError) throw fileError(symbolFile, error);
    throw subjectFailure(file, error);
  }
}

async function linux(spec: LinuxSpec, plan: Plan): Promise<Made> {
  const { file } = spec;
  if (plan.ready && plan.ready.serial === undefined)
    throw new UserError(
      `${spec.plan}: ready: expected serial: a Linux kernel is ready when its /init says so`,
    );
  const { bytes, initrd, symbols, symbolFile, commandLine, cpu } = await filesOf(spec, plan);
  const [{ bootLinux, LINUX_PATIENCE }, { linuxSubject, linuxVisits }, { parsePatch }, { packageVersion }] =
    await Promise.all([
      import('../check/linux/boot.ts'),
      import('../check/linux/subject.ts'),
      import('../check/linux/patch.ts'),
      import('./version.ts'),
    ]);
  const ready = plan.ready?.serial;
  const options = {
    cpus: spec.cpus ?? plan.machine?.cpus ?? 1,
    memory: spec.memory ?? plan.machine?.memory ?? LINUX_MEMORY,
    patience: spec.patience ?? LINUX_PATIENCE,
    ...(cpu !== undefined && { cpu }),
    ...(commandLine !== undefined && { commandLine }),
    ...(initrd && { initrd }),
    ...(ready !== undefined && { ready }),
  };
  const key = {
    'version of espfix': await packageVersion(),
    kernel: sha256(bytes),
    'initial RAM disk': initrd ? sha256(initrd) : '',
    machine: describeMachine(options),
    'command line': commandLine ?? '',
    'text that tells when it is ready': ready ?? '',
  };
  try {
    const patches = (spec.patches ?? []).map(parsePatch);
    let booted = spec.booted === undefined ? undefined : await loadBooted(spec.booted, key);
    if (!booted) {
      booted = bootLinux(bytes, options);
      if (spec.booted !== undefined) saveBooted(spec.booted, key, booted);
    }
    const { subject, notes } = linuxSubject({
      name: file,
      image: bytes,
      booted,
      patches,
      ownProgram: initrd === undefined,
      ...(symbols && { symbols }),
      ...(plan.watch !== undefined && { watch: plan.watch }),
    });
    return { subject, initrd, notes, standard: linuxVisits };
  } catch (error) {
    if (error instanceof PatchError) throw new UserError(`--patch ${error.message}`);
    if (error instanceof SymbolError) throw fileError(symbolFile, error);
    throw subjectFailure(file, error);
  }
}

/** What is wrong with a kernel, as an error of the user's; anything else as it is. */
export function subjectFailure(name: string, error: unknown): unknown {
  if (error instanceof SubjectError) return new UserError(`${name}: ${error.message}`);
  return error instanceof ImageError ? fileError(name, error) : error;
}
