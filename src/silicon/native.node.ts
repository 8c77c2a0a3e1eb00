/** Runs the native harness as a child process and feeds it batches. Node-only. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CASE, RESULT } from './batch.ts';
import { buildHarness, EXIT_NO_LDT, EXIT_SETUP, HEADER_BYTES, INFO_BYTES, MAX_CASES } from './harness.ts';
import type { Host, NativeSide } from './host-info.ts';
import { CODE_BYTES, DATA_BYTES } from './layout.ts';
import { IMAGE_BYTES } from './vector-state.ts';

/** Why native runs are impossible here, in one line; undefined where they are possible as far as can be told. */
export function hostUnfit(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return `needs an x86-64 Linux host, and this is ${process.platform} on ${process.arch}`;
  return undefined;
}

/** Features and model of the first processor in /proc/cpuinfo. */
export function readCpuInfo(): { features: ReadonlySet<string>; model: string } {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
  const numbers = `family ${field('cpu family')} model ${field('model')} stepping ${field('stepping')}`;
  return { features: new Set(field('flags').split(' ')), model: `${field('model name')}, ${numbers}` };
}

/** Writes an executable to a temporary folder. */
export function placeExecutable(image: Uint8Array): { path: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'espfix-silicon-'));
  const path = join(folder, 'program');
  writeFileSync(path, image);
  chmodSync(path, 0o755);
  return { path, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** The harness exited: a case destroyed it, or it cannot run on this host. */
export class HarnessExit extends Error {
  /** The host's kernel does not let programs have an LDT. */
  readonly noLdt: boolean;
  constructor(code: number | null, signal: string | null) {
    const reasons: Record<number, string> = {
      [EXIT_NO_LDT]: 'this kernel has no modify_ldt',
      [EXIT_SETUP]: 'a system call failed during its set-up',
    };
    const reason = code === null ? `killed by ${signal}` : (reasons[code] ?? `exit status ${code}`);
    super(`the native harness ended: ${reason}`);
    this.name = 'HarnessExit';
    this.noLdt = code === EXIT_NO_LDT;
  }
}

interface Waiting {
  bytes: number;
  resolve(data: Uint8Array): void;
  reject(error: Error): void;
}

/** One harness process. */
export class NativeRunner implements NativeSide {
  readonly info: Host;
  readonly #child: ChildProcess;
  readonly #reader: Reader;

  private constructor(child: ChildProcess, reader: Reader, info: Host) {
    this.#child = child;
    this.#reader = reader;
    this.info = info;
  }

  /** @param pattern the `DATA_BYTES` of scratch memory's content. */
  static async start(pattern: Uint8Array): Promise<NativeRunner> {
    if (pattern.length !== DATA_BYTES) throw new RangeError('wrong pattern length');
    const executable = placeExecutable(buildHarness());
    try {
      const child = spawn(executable.path, [], { stdio: ['pipe', 'pipe', 'inherit'] });
      const reader = new Reader(child);
      child.stdin?.on('error', () => {});
      child.stdin?.write(pattern);
      const bytes = await reader.read(INFO_BYTES);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      return new NativeRunner(child, reader, {
        fsGsBase: view.getUint32(0, true) !== 0,
        perCpuRights: view.getUint32(4, true),
        perCpuLimit: view.getUint32(8, true),
        catchesSystemCalls: view.getInt32(12, true) === 0,
        ...readCpuInfo(),
      });
    } finally {
      executable.remove();
    }
  }

  /**
   * Runs `count` cases over one content of the code region. Several may be under way; they are answered in order.
   * @returns `count` results, and with `images` as many images. Rejects with {@link HarnessExit}.
   */
  run(code: Uint8Array, cases: Uint8Array, count: number, images?: Uint8Array): Promise<Uint8Array> {
    if (code.length !== CODE_BYTES || count > MAX_CASES) throw new RangeError('bad batch');
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(count, 0);
    header.writeUInt32LE(images ? 1 : 0, 4);
    const stdin = this.#child.stdin;
    stdin?.cork();
    stdin?.write(header);
    // The stream keeps references until it has written; callers may reuse their buffers at once.
    stdin?.write(code.slice());
    stdin?.write(cases.slice(0, count * CASE.size));
    if (images) stdin?.write(images.slice(0, count * IMAGE_BYTES));
    stdin?.uncork();
    return this.#reader.read(count * (RESULT.size + (images ? IMAGE_BYTES : 0)));
  }

  /** Ends the process. */
  close(): void {
    this.#child.stdin?.end();
  }
}

/** Collects exact numbers of bytes from the child's output. */
class Reader {
  readonly #waiting: Waiting[] = [];
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  #ended: HarnessExit | undefined;

  constructor(child: ChildProcess) {
    child.stdout?.on('data', (chunk: Uint8Array) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      this.#serve();
    });
    child.on('close', (code, signal) => {
      this.#ended = new HarnessExit(code, signal);
      for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#ended);
    });
    child.on('error', (error) => {
      for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    });
  }

  read(bytes: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#ended) reject(this.#ended);
      else {
        this.#waiting.push({ bytes, resolve, reject });
        this.#serve();
      }
    });
  }

  #serve(): void {
    for (;;) {
      const first = this.#waiting[0];
      if (!first || this.#buffered < first.bytes) return;
      this.#waiting.shift();
      const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
      this.#buffered -= first.bytes;
      this.#chunks = this.#buffered > 0 ? [all.subarray(first.bytes)] : [];
      // A copy at offset 0, so that typed views of any width can be laid over it.
      first.resolve(all.slice(0, first.bytes));
    }
  }
}
