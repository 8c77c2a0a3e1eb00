/**
 * The processor's own answers: fixtures/native-instruction, built here by gcc, runs single instructions on FXSAVE images.
 * Tests that need it are skipped with a word where gcc is missing or this is no x86-64 Linux, and fail instead where
 * CI is set.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe } from 'vitest';

const SOURCE = fileURLToPath(new URL('../../../fixtures/native-instruction/run.c', import.meta.url));

/** Linear addresses of the instruction and of the memory that RSI points to. */
export const CODE = 0x15b7_3000n;
export const MEMORY = 0x16c9_4000n;
export const MEMORY_BYTES = 1024;

const IMAGE_AT = 16;
const MEMORY_AT = IMAGE_AT + 512;
const REGISTERS_AT = MEMORY_AT + MEMORY_BYTES;
const AVX_AT = REGISTERS_AT + 32;
const RECORD_BYTES = AVX_AT + 56;

/** State before or after an instruction. */
export interface NativeState {
  /** FXSAVE64 image. */
  readonly image: Uint8Array;
  readonly memory: Uint8Array;
  readonly rax: bigint;
  readonly rdx: bigint;
  readonly rflags: bigint;
  /** Upper halves of YMM0 to YMM2, where the case has any; as they were after a fault. */
  readonly upper: Uint8Array;
  /** Trap number of the fault that ended it, or -1. */
  readonly trap: number;
}

export interface NativeCase {
  readonly code: readonly number[];
  readonly image: Uint8Array;
  readonly memory?: Uint8Array;
  readonly rax?: bigint;
  readonly rdx?: bigint;
  /** Upper halves of YMM0 to YMM2, 48 bytes: for VEX-encoded instructions, on a processor with AVX. */
  readonly upper?: Uint8Array;
}

/** Whether native tests run here. Throws in CI where they cannot. */
export function nativeInstructionsHere(): boolean {
  const fit = process.platform === 'linux' && process.arch === 'x64';
  if (fit && !spawnSync('gcc', ['--version'], { stdio: 'ignore' }).error) return true;
  const reason = fit ? 'there is no gcc' : 'this is no x86-64 Linux';
  if (process.env.CI === 'true') throw new Error(`native tests are not to be skipped in CI: ${reason}`);
  console.warn(`NATIVE TESTS SKIPPED: ${reason}`);
  return false;
}

/** Whether the processor has the features, as /proc/cpuinfo names them. */
export function hostHas(...features: string[]): boolean {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].split(' ') ?? [];
  return features.every((feature) => flags.includes(feature));
}

/**
 * A group of tests that run cases, each by itself, on the processor: with the program built before them, and removed after.
 * Skipped where that is not to be had.
 */
export function describeNative(name: string, tests: (native: Pick<NativeInstructions, 'run'>) => void): void {
  describe.skipIf(!nativeInstructionsHere())(name, () => {
    let native: NativeInstructions | undefined;
    beforeAll(() => {
      native = new NativeInstructions();
    });
    afterAll(() => native?.close());
    tests({ run: (cases) => native?.run(cases) ?? [] });
  });
}

/** The built program; `close` removes it. */
class NativeInstructions {
  readonly #folder = mkdtempSync(join(tmpdir(), 'espfix-native-'));
  readonly #program: string;

  constructor() {
    this.#program = join(this.#folder, 'run');
    const built = spawnSync('gcc', ['-O1', '-o', this.#program, SOURCE], { encoding: 'utf8' });
    if (built.status !== 0) throw new Error(`gcc failed: ${built.stderr}`);
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Runs each case by itself. */
  run(cases: readonly NativeCase[]): NativeState[] {
    const input = new Uint8Array(cases.length * RECORD_BYTES);
    const view = new DataView(input.buffer);
    cases.forEach((one, i) => {
      const at = i * RECORD_BYTES;
      input.fill(0xc3, at, at + IMAGE_AT);
      input.set(one.code, at);
      input.set(one.image, at + IMAGE_AT);
      if (one.memory) input.set(one.memory, at + MEMORY_AT);
      view.setBigUint64(at + REGISTERS_AT, one.rax ?? 0n, true);
      view.setBigUint64(at + REGISTERS_AT + 8, one.rdx ?? 0n, true);
      view.setBigUint64(at + REGISTERS_AT + 16, 0x202n, true);
      if (one.upper) {
        view.setBigUint64(at + AVX_AT, 1n, true);
        input.set(one.upper, at + AVX_AT + 8);
      }
    });
    const { stdout, status } = spawnSync(this.#program, {
      input,
      maxBuffer: input.length + 1,
    });
    if (status !== 0 || stdout.length !== input.length)
      throw new Error(`the native program ended: ${status}`);
    const output = new DataView(stdout.buffer, stdout.byteOffset, stdout.length);
    return cases.map((_, i) => {
      const at = i * RECORD_BYTES;
      const part = (from: number, bytes: number) =>
        new Uint8Array(stdout.subarray(at + from, at + from + bytes));
      const signal = output.getUint32(at + REGISTERS_AT + 24, true);
      return {
        image: part(IMAGE_AT, 512),
        memory: part(MEMORY_AT, MEMORY_BYTES),
        rax: output.getBigUint64(at + REGISTERS_AT, true),
        rdx: output.getBigUint64(at + REGISTERS_AT + 8, true),
        upper: part(AVX_AT + 8, 48),
        rflags: output.getBigUint64(at + REGISTERS_AT + 16, true),
        trap: signal === 0 ? -1 : output.getUint32(at + REGISTERS_AT + 28, true),
      };
    });
  }
}

/** Places in an FXSAVE64 image (SDM vol. 1 table 10-2). */
export const IMAGE = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  st: 32,
  xmm: 160,
} as const;

/** An image after FNINIT with MXCSR 1F80H. */
export function initialImage(): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  view.setUint16(IMAGE.fcw, 0x37f, true);
  view.setUint32(IMAGE.mxcsr, 0x1f80, true);
  return { bytes, view };
}

/** Sets ST(`i`) of an image to an encoding of 80 bits. */
export function setRegister(view: DataView, i: number, value: bigint): void {
  view.setBigUint64(IMAGE.st + 16 * i, BigInt.asUintN(64, value), true);
  view.setBigUint64(IMAGE.st + 16 * i + 8, value >> 64n, true);
}

/** Bytes in hexadecimal, the first first. */
export function hex(bytes: ArrayLike<number>): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A number below a bound. */
export type Picker = (bound: number) => number;

/** A small fast generator, so that cases are the same each time. */
export function generator(seed: number): Picker {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x9e37_79b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0_aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a_2d97);
    return ((x ^ (x >>> 15)) >>> 0) % bound;
  };
}

interface Shape {
  readonly bits: number;
  readonly exponentBits: number;
  readonly fieldBits: number;
}

/** An encoding of a format whose operations are likely to meet corners. */
export function interestingFloat(pick: Picker, f: Shape): bigint {
  const ones = (1 << f.exponentBits) - 1;
  const middle = ones >> 1;
  const exponents = [0, 0, 1, 2, ones, ones, ones - 1, ones - 2, middle, middle, middle + pick(70) - 35];
  exponents.push(middle + f.fieldBits, middle - f.fieldBits - 1, pick(ones + 1), pick(ones + 1), middle + 63);
  let exponent = exponents[pick(exponents.length)];
  if (exponent < 0 || exponent > ones) exponent = middle;
  const width = BigInt(f.fieldBits);
  const random = BigInt.asUintN(f.fieldBits, (BigInt(pick(2 ** 32)) << 32n) | BigInt(pick(2 ** 32)));
  const bit = 1n << BigInt(pick(f.fieldBits));
  const fields = [0n, 0n, 1n, bit, bit - 1n, (1n << width) - bit, (1n << width) - 1n, random, random, random];
  fields.push(random & ((1n << width) - (1n << (width >> 1n))));
  let field = fields[pick(fields.length)];
  // The extended format's integer bit is nearly always as it should be.
  if (f.fieldBits === 64 && pick(12) !== 0) {
    field = exponent === 0 ? BigInt.asUintN(63, field) : field | (1n << 63n);
  }
  return (
    (((BigInt(pick(2)) << BigInt(f.exponentBits)) | BigInt(exponent)) << width) |
    BigInt.asUintN(f.fieldBits, field)
  );
}
