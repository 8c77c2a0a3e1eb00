/**
 * The machine's side of the fuzzer: runs the cases of a batch on our processor and writes the same results
 * that the native harness writes.
 */
import { BP, OF, TripleFault, UnimplementedInstruction } from '../arch/fault.ts';
import { Interpreter } from '../engine/interpreter/interpreter.ts';
import { type FirstDifference, makeScanner } from '../engine/wasm/memory-scan.ts';
import { decode } from '../isa/decode/decode.ts';
import { readFlags, writeFlags } from '../isa/flags.ts';
import type { CodeSize, Instruction } from '../isa/instruction.ts';
import { CS, DS, ES, FS, GS, RUNNING, SHADOW_NONE, SS } from '../isa/state.ts';
import {
  CASE,
  hashWord,
  KIND_EXCEPTION,
  KIND_INCOMPARABLE,
  KIND_SYSCALL,
  KIND_TIMEOUT,
  PATCH_BYTES,
  RESULT,
  RESULT_WORDS,
} from './batch.ts';
import type { Program } from './generate.ts';
import {
  CHANGEABLE_CODE,
  CODE,
  CODE_BYTES,
  DATA_BYTES,
  LDT,
  READ_ONLY,
  READ_ONLY_BYTES,
  SCRATCH,
  SCRATCH_BYTES,
} from './layout.ts';
import { initialImage, loadImage, storeImage } from './vector-state.ts';
import { World } from './world.ts';

/** Instructions after which a case is given up. */
export const BUDGET = 20_000;

/** The same for a run in steps. */
const TRACE_BUDGET = 4000;

/** The processor before an instruction. */
export interface Step {
  readonly bits: 16 | 32 | 64;
  readonly linear: bigint;
  readonly rip: bigint;
  readonly cl: number;
}

/** Images of vector registers before and after, at the same offset. */
export interface Vectors {
  readonly images: DataView;
  readonly results: DataView;
  readonly at: number;
}

const INITIAL = new DataView(initialImage().buffer);

const SEGMENTS = [CS, SS, DS, ES, FS, GS] as const;

export class Target {
  readonly #world: World;
  readonly #pattern: Uint8Array;
  /** What memory holds as the current case starts; the pattern but for the case's patch. */
  readonly #pristine: Uint8Array;
  readonly #pristineWords: Int32Array;
  readonly #scratch: Uint8Array;
  readonly #scratchWords: Int32Array;
  readonly #code: Uint8Array;
  readonly #loaded = [-1, -1, -1, -1, -1, -1];
  readonly #scan: FirstDifference;
  /** Physical address of the scratch page that may hold code. */
  readonly #changeable: number;
  #batches = 0;
  #vector = -1;
  #error = 0;
  #rip = 0n;
  #kind = KIND_EXCEPTION;
  /** What stopped cases that the machine cannot run, by message. */
  readonly unimplemented = new Map<string, number>();

  constructor(pattern: Uint8Array, perCpu: { rights: number; limit: number }) {
    this.#world = new World(perCpu);
    this.#world.setLdt(LDT);
    const code = this.#world.map(BigInt(CODE), CODE_BYTES, { write: false, execute: true });
    this.#code = this.#world.ram(code, CODE_BYTES);
    const data = this.#world.map(BigInt(SCRATCH), DATA_BYTES, { write: true, execute: false });
    this.#world.protect(BigInt(READ_ONLY), READ_ONLY_BYTES, { write: false, execute: false });
    this.#world.protect(BigInt(CHANGEABLE_CODE), 0x1000, { write: true, execute: true });
    this.#changeable = data + CHANGEABLE_CODE - SCRATCH;
    this.#world.ram(data, DATA_BYTES).set(pattern);
    this.#scratch = this.#world.ram(data, SCRATCH_BYTES);
    this.#scratchWords = new Int32Array(this.#scratch.buffer, this.#scratch.byteOffset, SCRATCH_BYTES / 4);
    this.#pattern = pattern.slice(0, SCRATCH_BYTES);
    const pristine = this.#world.reserve(SCRATCH_BYTES);
    this.#pristine = this.#world.ram(pristine, SCRATCH_BYTES);
    this.#pristine.set(this.#pattern);
    this.#pristineWords = new Int32Array(this.#pristine.buffer, this.#pristine.byteOffset, SCRATCH_BYTES / 4);
    this.#scan = makeScanner(this.#world.memory.memory);
    const { cpu } = this.#world;
    cpu.hooks = {
      deliver: (_cpu, vector, errorCode, source) => {
        // INT n checks the gate's DPL first, and comes back as #GP where that forbids it.
        if (source === 'software' && vector !== BP && vector !== OF) {
          if (vector !== 0x80) return false;
          this.#kind = KIND_SYSCALL;
        }
        if (cpu.cpl !== 3) this.#kind = KIND_SYSCALL;
        this.#vector = vector;
        this.#error = errorCode ?? 0;
        // A stopped delivery leaves RIP at a software interrupt, but the handler would have found it past it.
        this.#rip = cpu.rip;
        return true;
      },
    };
  }

  /** Puts a batch's code in place. What `programs` need is compiled at once, which is much faster than one by one. */
  load(code: Uint8Array, programs: readonly { program: Program; stackSize: CodeSize }[] = []): void {
    this.#code.set(code);
    const { interpreter } = this.#world.execution;
    // Every fourth batch runs in functions of whole runs, which take longer to make, the others in handlers.
    Interpreter.hotAfter = this.#batches++ % 4 === 0 ? 1 : 0;
    interpreter.flushAll();
    for (const { program, stackSize } of programs) {
      const instructions: Instruction[] = [];
      const end = Math.min(
        program.start < code.length ? code.length : 0,
        program.start + program.bytes.length + 1,
      );
      for (let at = program.start; at < end; ) {
        const instruction = decode(code, at, end, program.bits);
        if (!instruction) break;
        instructions.push(instruction);
        at += instruction.length;
      }
      interpreter.prepare(instructions, stackSize);
    }
  }

  /**
   * Runs one case.
   * @param vectors the registers that it starts with where they are not the initial ones, and where they go then
   * @param onStep told of each instruction before it runs; makes the run slow
   */
  run(
    cases: DataView,
    at: number,
    results: DataView,
    resultAt: number,
    vectors?: Vectors,
    onStep?: (step: Step) => void,
  ): void {
    const { cpu, execution } = this.#world;
    loadImage(cpu, vectors?.images ?? INITIAL, vectors?.at ?? 0);
    const caseBytes = cases.byteOffset + at;
    cpu.gpr.set(new BigUint64Array(cases.buffer, caseBytes + CASE.gpr, 16));
    writeFlags(cpu, cases.getBigUint64(at + CASE.rflags, true));
    cpu.rip = cases.getBigUint64(at + CASE.rip, true);
    for (let i = 0; i < 6; i++) {
      const selector = cases.getUint16(at + CASE.selectors + i * 2, true);
      const segment = SEGMENTS[i];
      if (i >= 4 || this.#loaded[i] !== selector || cpu.segSelector[segment] !== selector)
        this.#world.loadSegment(segment, selector);
      this.#loaded[i] = selector;
      if (i >= 4 && selector < 4)
        cpu.segBase[segment] = cases.getBigUint64(at + (i === 4 ? CASE.fsBase : CASE.gsBase), true);
    }
    cpu.cpl = 3;
    cpu.shadow = SHADOW_NONE;
    cpu.pendingDebug = 0;
    cpu.activity = RUNNING;
    cpu.dr[6] = 0xffff_0ff0n;
    cpu.stopRequested = false;
    const patchAt = cases.getUint32(at + CASE.patchAt, true);
    const patch = new Uint8Array(cases.buffer, caseBytes + CASE.patch, PATCH_BYTES);
    this.#scratch.set(patch, patchAt);
    this.#pristine.set(patch, patchAt);
    this.#written(patchAt, PATCH_BYTES);

    this.#vector = -1;
    this.#error = 0;
    this.#kind = KIND_EXCEPTION;
    try {
      if (onStep) this.#runTraced(onStep);
      else if (execution.run(cpu, BUDGET) !== 'hook') this.#kind = KIND_TIMEOUT;
    } catch (error) {
      if (!(error instanceof UnimplementedInstruction || error instanceof TripleFault)) throw error;
      this.#kind = KIND_INCOMPARABLE;
      this.#rip = cpu.rip;
      const message = error instanceof Error ? error.message.replace(/.*: /, '') : 'triple fault';
      this.unimplemented.set(message, (this.unimplemented.get(message) ?? 0) + 1);
    }
    this.#record(results, resultAt);
    if (vectors) storeImage(cpu, vectors.results, vectors.at);
    this.#scratch.set(this.#pattern.subarray(patchAt, patchAt + PATCH_BYTES), patchAt);
    this.#written(patchAt, PATCH_BYTES);
    this.#pristine.set(this.#pattern.subarray(patchAt, patchAt + PATCH_BYTES), patchAt);
  }

  /** Scratch memory was changed behind the processor's back: tells of it where there may be code. */
  #written(offset: number, bytes: number): void {
    const first = CHANGEABLE_CODE - SCRATCH;
    const from = Math.max(offset, first);
    if (offset + bytes > from)
      this.#world.execution.interpreter.written(this.#changeable + from - first, offset + bytes - from);
  }

  /** Code bytes at a linear address: 15, or as far as pages are mapped. */
  code(linear: bigint): Uint8Array {
    const bytes: number[] = [];
    for (let i = 0n; i < 15n; i++) {
      const physical = this.#world.physical(linear + i);
      if (physical < 0) break;
      bytes.push(this.#world.ram(physical, 1)[0]);
    }
    return Uint8Array.from(bytes);
  }

  #runTraced(onStep: (step: Step) => void): void {
    const { cpu, execution } = this.#world;
    for (let count = 0; count < TRACE_BUDGET; count++) {
      const bits = cpu.codeSize;
      const base = cpu.mode64 ? 0n : cpu.segBase[CS];
      onStep({ bits, linear: base + cpu.rip, rip: cpu.rip, cl: Number(cpu.gpr[1] & 0xffn) });
      if (execution.run(cpu, 1) === 'hook') return;
    }
    this.#kind = KIND_TIMEOUT;
  }

  #record(results: DataView, at: number): void {
    const { cpu } = this.#world;
    new BigUint64Array(results.buffer, results.byteOffset + at + RESULT.gpr, 16).set(cpu.gpr);
    results.setBigUint64(at + RESULT.rflags, readFlags(cpu), true);
    results.setBigUint64(at + RESULT.rip, this.#kind === KIND_TIMEOUT ? cpu.rip : this.#rip, true);
    results.setBigUint64(at + RESULT.cr2, cpu.cr2, true);
    results.setBigUint64(at + RESULT.fsBase, cpu.segBase[FS], true);
    results.setBigUint64(at + RESULT.gsBase, cpu.segBase[GS], true);
    for (let i = 0; i < 6; i++)
      results.setUint16(at + RESULT.selectors + i * 2, cpu.segSelector[SEGMENTS[i]], true);
    results.setUint8(at + RESULT.kind, this.#kind);
    results.setUint8(at + RESULT.trapno, this.#vector & 0xff);
    results.setUint16(at + RESULT.err, this.#error, true);

    let hash = 0;
    let changed = 0;
    const now = this.#scratchWords;
    const before = this.#pristineWords;
    const scratch = this.#scratch.byteOffset;
    const pristine = this.#pristine.byteOffset;
    let offset = this.#scan(scratch, pristine, 0, SCRATCH_BYTES);
    while (offset < SCRATCH_BYTES) {
      for (let i = offset >> 2; i <= (offset >> 2) + 1; i++) {
        const value = now[i];
        if (value === before[i]) continue;
        now[i] = before[i];
        this.#written(i * 4, 4);
        hash = hashWord(hash, i, value);
        if (changed < RESULT_WORDS) {
          results.setUint32(at + RESULT.words + changed * 8, i, true);
          results.setInt32(at + RESULT.words + changed * 8 + 4, value, true);
        }
        changed++;
      }
      offset = this.#scan(scratch, pristine, offset + 8, SCRATCH_BYTES);
    }
    results.setUint32(at + RESULT.changed, changed, true);
    results.setInt32(at + RESULT.hash, hash, true);
    for (let i = changed; i < RESULT_WORDS; i++) results.setBigUint64(at + RESULT.words + i * 8, 0n, true);
  }
}
