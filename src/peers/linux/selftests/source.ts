/**
 * The kernel's x86 self-tests: `tools/testing/selftests/x86` of Debian's linux-source-6.1, built by its own Makefile as
 * static programs of 64 and 32 bits.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const PACKAGE = 'linux-source-6.1';
/** What the tests are and what they include, in the source's archive. */
const WANTED = [
  '*/tools/testing/selftests/x86',
  '*/tools/testing/selftests/kselftest*.h',
  '*/tools/testing/selftests/lib.mk',
  '*/arch/x86/include/asm',
];

/** Unpacks into `folder`/source. */
function unpack(folder: string): string {
  const source = join(folder, 'source');
  if (existsSync(source)) return source;
  execFileSync('apt-get', ['download', '-qq', PACKAGE], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const file = readdirSync(folder).find((name) => name.startsWith(`${PACKAGE}_`));
  if (file === undefined) throw new Error(`apt-get download has left no ${PACKAGE}`);
  const unpacked = join(folder, 'source.part');
  rmSync(unpacked, { recursive: true, force: true });
  mkdirSync(unpacked);
  const script =
    'dpkg --fsys-tarfile "$0" | tar -xO --wildcards "*.tar.xz" | xz -dc | tar -x -C "$1" --strip-components=1 --wildcards "$2" "$3" "$4" "$5"';
  execFileSync('bash', ['-o', 'pipefail', '-c', script, file, unpacked, ...WANTED], { cwd: folder });
  execFileSync('mv', [unpacked, source]);
  return source;
}

/** Names of the programs, built where they are missing, and the folder that they are in. Throws where a tool fails. */
export function buildSelftests(folder: string): { readonly programs: string; readonly names: string[] } {
  const tests = join(unpack(folder), 'tools/testing/selftests/x86');
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
