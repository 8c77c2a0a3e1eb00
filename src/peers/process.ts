/** Starting, watching and ending a peer's process. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The first line that `program` prints about itself, or undefined if it is not installed. */
export function firstLineOf(program: string, args: readonly string[], pattern: RegExp): string | undefined {
  const result = spawnSync(program, args, { encoding: 'utf8', timeout: 20_000, input: '' });
  if (result.error) return undefined;
  return pattern.exec(`${result.stdout}\n${result.stderr}`)?.[1];
}

/** Runs `body` with a fresh temporary directory, which is removed afterwards. */
export async function withTemporaryDirectory<T>(body: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'espfix-'));
  try {
    return await body(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Runs a program to its end. Rejects with what it printed if it fails. */
export async function runTool(program: string, args: readonly string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const log = new Tail();
  child.stdout.on('data', (data: Buffer) => log.push(data));
  child.stderr.on('data', (data: Buffer) => log.push(data));
  const status = await ended(child);
  if (status !== 0) throw new Error(`${program} ended with status ${status}: ${log.text}`);
}

/**
 * Processor time in milliseconds that a process, or one of its threads, has used: what it costs however busy the
 * computer is. Wall-clock time where there is no /proc (Linux, proc(5), schedstat).
 */
export function processorTime(process: number, thread?: number): number {
  try {
    const tasks = thread === undefined ? readdirSync(`/proc/${process}/task`) : [String(thread)];
    let nanoseconds = 0;
    for (const task of tasks)
      nanoseconds += Number(readFileSync(`/proc/${process}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
    return nanoseconds / 1e6;
  } catch {
    return performance.now();
  }
}

/** Resolves with the exit status (undefined after a signal) when the process is gone. */
export function ended(child: ChildProcess): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? undefined));
  });
}

/** The last few thousand characters of a log. */
export class Tail {
  text = '';
  push(data: Buffer): void {
    this.text = (this.text + data.toString('latin1')).slice(-4000);
  }
}

const live = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of live) child.kill('SIGKILL');
});

/** Sees to it that the process does not outlive this one. */
export function tether(child: ChildProcess): void {
  live.add(child);
  child.once('close', () => live.delete(child));
}
