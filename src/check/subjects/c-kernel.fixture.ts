/**
 * A kernel that was not written for this checker: fixtures/c-kernel, in C, built here by gcc, binutils and make. Tests that
 * need it are skipped with a word where those are missing, and fail instead where CI is set.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The mistakes that can be built in; kernel.h says what each is. */
export const cKernelBugs = [
  'BUG_NMI_CS_ONLY',
  'BUG_NMI_NO_IST',
  'BUG_DB_CS_ONLY',
  'BUG_SYSRET_UNCHECKED',
  'BUG_LEAK_R11',
  'BUG_MC_NO_IST',
  'BUG_NMI_BREAKPOINT',
] as const;
export type CKernelBug = (typeof cKernelBugs)[number] | (typeof cKernelRaces)[number];

/** Those that only an event between two instructions of the kernel shows, and that states taken for equal would hide. */
export const cKernelRaces = [
  'BUG_TIMER_LOCK',
  'BUG_NMI_GLOBAL',
  'BUG_NMI_OTHER_STACK',
  'BUG_NMI_INVLPG',
  'BUG_NMI_CMOS',
] as const;

export interface CKernelOptions {
  /** None unless told: the sound kernel. */
  readonly bug?: CKernelBug;
  /** The tasks do nothing that is meant to provoke the kernel. */
  readonly plainTasks?: boolean;
  /** `elf32`, the default, is what every Multiboot loader takes; `elf64` has addresses of full width. */
  readonly format?: 'elf32' | 'elf64';
  /** The compiler's option for debugging information; `-g` unless told. */
  readonly debug?: string;
}

const SOURCES = fileURLToPath(new URL('../../../fixtures/c-kernel', import.meta.url));
const TOOLS = ['make', 'gcc', 'as', 'ld', 'objcopy'];

/** Whether the kernel can be built here. Throws in CI where it cannot. */
export function cKernelHere(): boolean {
  const missing = TOOLS.filter((tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).error);
  if (missing.length === 0 && process.arch === 'x64') return true;
  const why = missing.length > 0 ? `${missing.join(', ')} not installed` : `this is ${process.arch}, not x64`;
  if (process.env.CI) throw new Error(`tests of the C kernel are not to be skipped in CI: ${why}`);
  console.warn(`TESTS OF THE C KERNEL SKIPPED: ${why}`);
  return false;
}

const built = new Map<string, Readonly<Record<'elf32' | 'elf64', Uint8Array>>>();

/** A bootable image of the kernel. Throws with the tools' words where they fail. */
export function buildCKernel(options: CKernelOptions = {}): Uint8Array {
  const { bug, plainTasks = false, format = 'elf32', debug = '-g' } = options;
  const defines = [...(bug ? [`-D${bug}`] : []), ...(plainTasks ? ['-DPLAIN_TASKS'] : [])].join(' ');
  const key = `${defines} ${debug}`;
  let files = built.get(key);
  if (!files) {
    const out = mkdtempSync(join(tmpdir(), 'espfix-'));
    try {
      const result = spawnSync(
        'make',
        ['-s', '-j2', '-C', SOURCES, `OUT=${out}`, `DEFINES=${defines}`, `DEBUG=${debug}`],
        { encoding: 'utf8' },
      );
      if (result.status !== 0)
        throw new Error(`the C kernel cannot be built: ${result.error?.message ?? result.stderr}`);
      const read = (name: string) => new Uint8Array(readFileSync(join(out, name)));
      files = { elf32: read('kernel.elf'), elf64: read('kernel64.elf') };
      built.set(key, files);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  }
  return files[format];
}

/**
 * What the sound kernel prints: two lines, then the tasks' lines, each counting from 1. They take turns as the timer has
 * it, so only each task's own order is certain. Returns how far each has come; throws at a line that is none of these.
 */
export function readCKernelOutput(serial: string): { a: number; b: number } {
  const lines = serial.split(/\r?\n/).slice(0, -1);
  const count = { A: 0, B: 0 };
  lines.forEach((line, i) => {
    if (i === 0 && line === 'hello from the kernel') return;
    if (i === 1 && line === 'two tasks ready') return;
    for (const name of ['A', 'B'] as const)
      if (i > 1 && line === `${name} ${count[name] + 1}`) {
        count[name]++;
        return;
      }
    throw new Error(`line ${i + 1} is not what the sound kernel prints: ${JSON.stringify(line)}`);
  });
  return { a: count.A, b: count.B };
}
