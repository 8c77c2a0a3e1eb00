/**
 * The differential fuzzer: batches of cases through the processor and through the machine, and what is to be
 * made of their differences.
 */
import { CASE, decodeResult, KIND_EXCEPTION, KIND_TIMEOUT, RESULT, type Result } from './batch.ts';
import { type Difference, differences, quickEqual } from './compare.ts';
import { disassemble } from './disassembly.ts';
import { environmentRules } from './environment.ts';
import { Generator, makePattern, type Program, STATES, usesVectors } from './generate.ts';
import type { Host, NativeSide } from './host-info.ts';
import { CODE, CODE_BYTES, isBits32, SLOTS } from './layout.ts';
import { USER_CS } from './linux-abi.ts';
import { Target, type Vectors } from './target.ts';
import { type Executed, undefinedAfter } from './undefined.ts';
import { IMAGE_BYTES, imagesEqual } from './vector-state.ts';

/** Cases of one batch: every slot once. */
export const BATCH_CASES = SLOTS * STATES;

/** A case in which processor and machine differ for no known reason. */
export interface Finding {
  readonly seed: number;
  /** Number of the case in the run: what `--case` takes. */
  readonly number: number;
  readonly program: Program;
  /** The case's 256 bytes. */
  readonly caseBytes: Uint8Array;
  /** Its vector registers, if it uses vectors. */
  readonly image?: Uint8Array;
  readonly native: Result;
  readonly machine: Result;
  readonly differences: readonly Difference[];
  readonly executed: readonly Executed[];
}

export interface FuzzOptions {
  readonly seed: number;
  /** Cases to run, rounded up to whole batches. */
  readonly cases: number;
  /** Program to begin with; a multiple of {@link SLOTS}. */
  readonly firstProgram?: number;
  /** Only batches that use vectors. */
  readonly vectorsOnly?: boolean;
  /** Stop after so many findings. */
  readonly maxFindings?: number;
  readonly onProgress?: (done: number, findings: number) => void;
  readonly onFinding?: (finding: Finding) => void;
}

export interface FuzzSummary {
  readonly cases: number;
  /** Cases in which everything was compared. */
  readonly compared: number;
  /** Cases left out, by environment rule. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** Differences that did not come again when the case was run by itself. */
  readonly transient: number;
  readonly findings: readonly Finding[];
  /** Cases that ended with each vector. */
  readonly vectors: ReadonlyMap<number, number>;
  /** Programs in which each form stood. */
  readonly forms: ReadonlyMap<string, number>;
}

/** Processors whose undefined flags the semantics follow (isa/semantics/undefined-flags.ts). */
const EXACT_FLAGS = /Intel.* family 6 model 207 /;

interface Batch {
  readonly first: number;
  readonly programs: readonly Program[];
  readonly code: Uint8Array;
  readonly cases: Uint8Array;
  /** Images of vector registers, before and after. */
  readonly images?: Uint8Array;
  readonly machine: Uint8Array;
  readonly machineImages?: Uint8Array;
  readonly native: Promise<Uint8Array>;
}

function withImage(result: Result, image: Uint8Array | undefined): Result {
  return image ? { ...result, image } : result;
}

/** The image of case `i`. */
function imageAt(images: Uint8Array | undefined, i: number): Uint8Array | undefined {
  return images?.slice(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES);
}

function vectorsOf(images: Uint8Array | undefined, results: Uint8Array | undefined): Vectors | undefined {
  if (!images || !results) return undefined;
  return {
    images: new DataView(images.buffer, images.byteOffset),
    results: new DataView(results.buffer, results.byteOffset),
    at: 0,
  };
}

/** One fuzzing session over a native side. */
export class Fuzzer {
  readonly #native: NativeSide;
  readonly #seed: number;
  readonly #target: Target;
  readonly #generator: Generator;
  /** Flags that the manual leaves undefined must agree, too. */
  readonly #exactFlags: boolean;

  /** @param native started with `makePattern(seed)`. */
  constructor(native: NativeSide, seed: number) {
    this.#native = native;
    this.#seed = seed;
    const { perCpuRights, perCpuLimit } = native.info;
    this.#target = new Target(makePattern(seed), { rights: perCpuRights, limit: perCpuLimit });
    this.#generator = new Generator(seed);
    this.#exactFlags = EXACT_FLAGS.test(native.info.model);
  }

  get host(): Host {
    return this.#native.info;
  }

  /** Instructions that stopped the machine, by their bytes. */
  get unimplemented(): ReadonlyMap<string, number> {
    return this.#target.unimplemented;
  }

  #prepare(first: number): Batch {
    const code = new Uint8Array(CODE_BYTES).fill(0xcc);
    const cases = new Uint8Array(BATCH_CASES * CASE.size);
    const view = new DataView(cases.buffer);
    const programs: Program[] = [];
    const images = usesVectors(first) ? new Uint8Array(BATCH_CASES * IMAGE_BYTES) : undefined;
    const imageView = images && new DataView(images.buffer);
    for (let i = 0; i < SLOTS; i++)
      programs.push(
        this.#generator.make(
          first + i,
          code,
          view,
          i * STATES * CASE.size,
          imageView && { view: imageView, at: i * STATES * IMAGE_BYTES },
        ),
      );
    const { results: machine, images: machineImages } = this.#runMachine(
      code,
      cases,
      BATCH_CASES,
      images,
      programs,
    );
    // A case that does not end would keep the harness until its watchdog: it gets an INT3 to run instead.
    const nativeCases = cases.slice();
    const nativeView = new DataView(nativeCases.buffer);
    for (let i = 0; i < BATCH_CASES; i++) {
      if (machine[i * RESULT.size + RESULT.kind] !== KIND_TIMEOUT) continue;
      nativeView.setBigUint64(i * CASE.size + CASE.rip, BigInt(CODE), true);
      nativeView.setUint16(i * CASE.size + CASE.selectors, USER_CS, true);
    }
    return {
      first,
      programs,
      code,
      cases,
      machine,
      ...(images && machineImages ? { images, machineImages } : {}),
      native: this.#native.run(code, nativeCases, BATCH_CASES, images),
    };
  }

  /** Runs cases; a batch is under way natively while the machine works on the next. */
  async run(options: FuzzOptions): Promise<FuzzSummary> {
    const leftOut = new Map<string, number>();
    const vectors = new Map<number, number>();
    const forms = new Map<string, number>();
    const findings: Finding[] = [];
    const maximum = options.maxFindings ?? 10;
    let next = options.firstProgram ?? 0;
    let compared = 0;
    let done = 0;
    let transient = 0;
    const queue: Batch[] = [];
    const bases = this.host.fsGsBase;
    while (done < options.cases && findings.length < maximum) {
      while (queue.length < 2) {
        while (options.vectorsOnly && !usesVectors(next)) next += SLOTS;
        queue.push(this.#prepare(next));
        next += SLOTS;
      }
      const batch = queue.shift();
      if (!batch) break;
      for (const program of batch.programs)
        for (const piece of program.pieces) forms.set(piece.form, (forms.get(piece.form) ?? 0) + 1);
      const { machine, machineImages } = batch;
      const native = await batch.native;
      const nativeImages = machineImages && native.subarray(BATCH_CASES * RESULT.size);
      const nativeImageWords =
        nativeImages && new Int32Array(nativeImages.buffer, nativeImages.byteOffset, nativeImages.length / 4);
      const machineImageWords = machineImages && new Int32Array(machineImages.buffer);
      const registersEqual = (i: number) =>
        !nativeImageWords ||
        !machineImageWords ||
        imagesEqual(nativeImageWords, machineImageWords, i * IMAGE_BYTES);
      const nativeWords = new Int32Array(native.buffer, native.byteOffset, native.length / 4);
      const machineWords = new Int32Array(machine.buffer);
      for (let i = 0; i < BATCH_CASES; i++) {
        const vector = native[i * RESULT.size + RESULT.trapno];
        vectors.set(vector, (vectors.get(vector) ?? 0) + 1);
        if (
          quickEqual(nativeWords, machineWords, i, bases) &&
          registersEqual(i) &&
          machine[i * RESULT.size + RESULT.kind] === KIND_EXCEPTION
        ) {
          compared++;
          continue;
        }
        const program = batch.programs[Math.floor(i / STATES)];
        const caseBytes = batch.cases.slice(i * CASE.size, (i + 1) * CASE.size);
        const imageOf = (images: Uint8Array | undefined) => imageAt(images, i);
        const image = imageOf(batch.images);
        const verdict = await this.judge(
          program,
          caseBytes,
          batch.first * STATES + i,
          batch.code,
          {
            native: withImage(
              decodeResult(new DataView(native.buffer, native.byteOffset), i * RESULT.size),
              imageOf(nativeImages),
            ),
            machine: withImage(
              decodeResult(new DataView(machine.buffer), i * RESULT.size),
              imageOf(machineImages),
            ),
          },
          image,
        );
        if (verdict === 'same') compared++;
        else if (verdict === 'transient') transient++;
        else if (typeof verdict === 'string') leftOut.set(verdict, (leftOut.get(verdict) ?? 0) + 1);
        else {
          findings.push(verdict);
          options.onFinding?.(verdict);
          if (findings.length >= maximum) break;
        }
      }
      done += BATCH_CASES;
      options.onProgress?.(done, findings.length);
    }
    for (const batch of queue) await batch.native;
    return { cases: done, compared, leftOut, transient, findings, vectors, forms };
  }

  #runMachine(
    code: Uint8Array,
    cases: Uint8Array,
    count: number,
    images?: Uint8Array,
    programs: readonly Program[] = [],
  ): { results: Uint8Array; images?: Uint8Array } {
    const results = new Uint8Array(count * RESULT.size);
    const caseView = new DataView(cases.buffer, cases.byteOffset);
    const resultView = new DataView(results.buffer);
    this.#target.load(
      code,
      programs.map((program, i) => {
        const ss = caseView.getUint16(i * STATES * CASE.size + CASE.selectors + 2, true);
        return { program, stackSize: program.bits === 64 ? 64 : isBits32(ss) ? 32 : 16 };
      }),
    );
    const after = images && new Uint8Array(count * IMAGE_BYTES);
    const vectors = vectorsOf(images, after);
    for (let i = 0; i < count; i++)
      this.#target.run(
        caseView,
        i * CASE.size,
        resultView,
        i * RESULT.size,
        vectors && { ...vectors, at: i * IMAGE_BYTES },
      );
    return after ? { results, images: after } : { results };
  }

  /** Runs one case by itself on the machine, noting what was executed. */
  trace(
    code: Uint8Array,
    caseBytes: Uint8Array,
    image?: Uint8Array,
  ): { machine: Result; executed: Executed[] } {
    const after = image && new Uint8Array(IMAGE_BYTES);
    const results = new Uint8Array(RESULT.size);
    const executed: Executed[] = [];
    this.#target.load(code);
    // Aligned anew, for typed views.
    const own = caseBytes.slice();
    const vectors = vectorsOf(image?.slice(), after);
    this.#target.run(new DataView(own.buffer), 0, new DataView(results.buffer), 0, vectors, (step) => {
      const last = executed.at(-1);
      const offset = Number(step.linear);
      if (last && last.offset === offset && last.mnemonic !== 'Jmp') return;
      const [instruction] = disassemble(this.#target.code(step.linear), step.bits, step.rip, 0, 1);
      if (instruction) executed.push({ ...instruction, offset, cl: step.cl, completed: true });
    });
    const machine = withImage(decodeResult(new DataView(results.buffer), 0), after);
    // What ended the case kept the last one from changing flags: a fault of its own, or a trap before it.
    const last = executed.at(-1);
    if (last) {
      executed[executed.length - 1] = { ...last, completed: false };
    }
    return { machine, executed };
  }

  /**
   * What to make of a difference: `same` once undefined flags are set aside, the name of an environment rule,
   * `transient` if it does not come again, or a finding.
   */
  async judge(
    program: Program,
    caseBytes: Uint8Array,
    number: number,
    code: Uint8Array,
    first: { native: Result; machine: Result },
    image?: Uint8Array,
  ): Promise<Finding | string> {
    if (
      first.machine.kind === KIND_EXCEPTION &&
      differences(first.native, first.machine, this.host, 0).length === 0
    )
      return 'same';
    // What needs no look at the instructions executed.
    const outside = { ...first, host: this.host, executed: [] };
    for (const rule of environmentRules) if (rule.applies(outside)) return rule.name;
    const { executed, machine } = this.trace(code, caseBytes, image);
    const situation = { ...first, host: this.host, executed };
    for (const rule of environmentRules) if (rule.applies(situation)) return rule.name;
    const { flags, used } = this.#exactFlags ? { flags: 0, used: false } : undefinedAfter(executed);
    if (used) return 'undefined flag used';
    if (differences(first.native, first.machine, this.host, flags).length === 0) return 'same';
    const native = await this.#runNative(code, caseBytes, image);
    const found = differences(native, machine, this.host, flags);
    if (found.length === 0) return 'transient';
    return {
      seed: this.#seed,
      number,
      program,
      caseBytes,
      ...(image ? { image } : {}),
      native,
      machine,
      differences: found,
      executed,
    };
  }

  /** One case on the processor. */
  async #runNative(code: Uint8Array, caseBytes: Uint8Array, image?: Uint8Array): Promise<Result> {
    const found = await this.#native.run(code, caseBytes, 1, image);
    const result = decodeResult(new DataView(found.buffer, found.byteOffset), 0);
    return withImage(result, image && found.slice(RESULT.size));
  }

  /** Runs one case again by itself: of a run's numbering, or with changed code. */
  async replay(number: number, bytes?: Uint8Array): Promise<Finding | string> {
    const code = new Uint8Array(CODE_BYTES).fill(0xcc);
    const cases = new Uint8Array(STATES * CASE.size);
    const first = Math.floor(number / STATES);
    const images = usesVectors(first) ? new Uint8Array(STATES * IMAGE_BYTES) : undefined;
    const made = this.#generator.make(
      first,
      code,
      new DataView(cases.buffer),
      0,
      images && { view: new DataView(images.buffer), at: 0 },
    );
    const program = bytes ? { ...made, bytes } : made;
    const state = number % STATES;
    const caseBytes = cases.slice(state * CASE.size, (state + 1) * CASE.size);
    // The program stands in the code region, or in the case's own memory content.
    if (bytes && program.start < CODE_BYTES)
      code.set(bytes.subarray(0, CODE_BYTES - program.start), program.start);
    else if (bytes) caseBytes.set(bytes, CASE.patch);
    const image = imageAt(images, state);
    const native = await this.#runNative(code, caseBytes, image);
    const machine = this.#runMachine(code, caseBytes, 1, image);
    const results = {
      native,
      machine: withImage(decodeResult(new DataView(machine.results.buffer), 0), machine.images),
    };
    return this.judge(program, caseBytes, number, code, results, image);
  }

  /**
   * Shrinks a finding: instructions become NOPs of the same length, and the end is cut off, as long as the same
   * first field differs.
   */
  async shrink(finding: Finding): Promise<Finding> {
    const wanted = finding.differences[0].field;
    let best = finding;
    const attempt = async (bytes: Uint8Array): Promise<boolean> => {
      const verdict = await this.replay(finding.number, bytes);
      if (typeof verdict === 'string' || verdict.differences[0].field !== wanted) return false;
      best = verdict;
      return true;
    };
    for (const piece of [...finding.program.pieces].reverse()) {
      const cut = best.program.bytes.slice();
      cut.fill(0xcc, piece.offset);
      if (await attempt(cut)) continue;
      const bytes = best.program.bytes.slice();
      bytes.fill(0x90, piece.offset, piece.offset + piece.length);
      await attempt(bytes);
    }
    return best;
  }
}
