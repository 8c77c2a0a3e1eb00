/** The tests of the battery in fixtures/debian, and how they are run on this computer's processor. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { linesOf, type Outcome } from '../selftests/transcript.ts';

/** Groups, and what the files of their tests end in. */
const GROUPS = [
  ['coreutils', '.sh'],
  ['bash', '.sh'],
  ['programs', '.sh'],
  ['python', '.py'],
  ['gcc', '.c'],
] as const;

/** Names of all tests, as `run` takes them, of a Debian with the battery. */
export function testNames(root: string): string[] {
  const battery = join(root, 'battery');
  const own = GROUPS.flatMap(([group, ending]) =>
    readdirSync(join(battery, group))
      .filter((file) => file.endsWith(ending))
      .sort()
      .map((file) => `${group}/${file.slice(0, -ending.length)}`),
  );
  const modules = readFileSync(join(battery, 'cpython'), 'utf8').match(/^test_\w+$/gm) ?? [];
  return [...own, ...modules.map((module) => `cpython/${module}`)];
}

/** Clock ticks a second in /proc: the same for all of Linux's user mode. */
const TICKS = 100;

/** Seconds of processor time of all processes that were started here and have ended (proc(5), cutime and cstime). */
function childrenTime(): number {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  // Behind the name, which is in parentheses and may have anything in it, the third field comes first.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / TICKS;
}

/**
 * Runs a test in the Debian at `root` on this computer's processor and kernel, for so many seconds at most; says how many it has
 * used of the processor's time.
 */
export function runNatively(
  root: string,
  name: string,
  seconds: number,
): { readonly outcome: Outcome; readonly seconds: number } {
  const before = childrenTime();
  const script = join(root, 'battery/native');
  const { status, stdout, error } = spawnSync(
    'unshare',
    ['--mount', '--pid', '--fork', '--kill-child', script, root, name, String(seconds)],
    // As consoles are read.
    { encoding: 'latin1', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28 },
  );
  if (error) throw error;
  const outcome = { status: status ?? undefined, lines: linesOf(stdout) };
  return { outcome, seconds: childrenTime() - before };
}
