/**
 * The kernel's x86 self-tests: `tools/testing/selftests/x86` of Debian's linux-source-6.1, built by its own Makefile as
 * static programs of 64 and 32 bits.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { unpackSource } from '../source.ts';

/** What the tests are and what they include, in the source's archive. */
const WANTED = [
  '*/tools/testing/selftests/x86',
  '*/tools/testing/selftests/kselftest*.h',
  '*/tools/testing/selftests/lib.mk',
  '*/arch/x86/include/asm',
];

/** Names of the programs, built where they are missing, and the folder that they are in. Throws where a tool fails. */
export function buildSelftests(folder: string): { readonly programs: string; readonly names: string[] } {
  const tests = join(unpackSource(folder, WANTED), 'tools/testing/selftests/x86');
  const programs = join(folder, 'programs');
  mkdirSync(programs, { recursive: true });
  execFileSync(
    'make',
    ['-s', '-C', tests, 'CC=gcc -static -s', `OUTPUT=${programs}`, 'KHDR_INCLUDES=', 'all'],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const names = readdirSync(programs).filter((name) => /_(32|64)$/.test(name));
  const size = (name: string) => (name.endsWith('_64') ? 0 : 1);
  return { programs, names: names.sort((a, b) => size(a) - size(b) || (a < b ? -1 : 1)) };
}
