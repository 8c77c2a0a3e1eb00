/** The kernel's source as Debian has it: the archive in the package linux-source-6.1. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { download, packageFiles } from './apt.ts';

const PACKAGE = 'linux-source-6.1';

/** Unpacks the members of the archive that fit the patterns, all without any, into `folder`/source; returns its path. */
export function unpackSource(folder: string, patterns: readonly string[] = []): string {
  const source = join(folder, 'source');
  if (existsSync(source)) return source;
  if (packageFiles(folder, PACKAGE).length === 0) download(folder, [PACKAGE], undefined);
  const file = packageFiles(folder, PACKAGE)[0];
  if (file === undefined) throw new Error(`apt-get download has left no ${PACKAGE}`);
  // Whole or not at all.
  const unpacked = join(folder, 'source.part');
  rmSync(unpacked, { recursive: true, force: true });
  mkdirSync(unpacked);
  const script =
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is the shell's
    'dpkg --fsys-tarfile "$0" | tar -xO --wildcards "*.tar.xz" | xz -dc | tar -x -C "$1" --strip-components=1 --wildcards "${@:2}"';
  execFileSync('bash', ['-o', 'pipefail', '-c', script, file, unpacked, ...patterns], { cwd: folder });
  execFileSync('mv', [unpacked, source]);
  return source;
}
