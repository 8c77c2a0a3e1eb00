/**
 * Debian's packages, by apt-get and dpkg, into folders of our own: nothing is installed, and no setting of the system is
 * changed. apt-get(8), apt.conf(5).
 */
import { type ExecFileSyncOptions, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's name of an architecture; undefined is this computer's own. */
export type Architecture = 'i386' | undefined;

const QUIET: ExecFileSyncOptions = { stdio: ['ignore', 'ignore', 'inherit'] };

/**
 * Options by which apt takes another architecture for its own, with lists of packages in `folder`, fetched where they
 * are not there yet.
 */
function optionsFor(folder: string, architecture: Architecture): string[] {
  if (architecture === undefined) return [];
  const lists = join(folder, 'lists');
  const options = [
    `APT::Architecture=${architecture}`,
    `APT::Architectures=${architecture}`,
    `Dir::State::Lists=${lists}`,
    'Dir::Cache::pkgcache=',
    'Dir::Cache::srcpkgcache=',
  ].flatMap((setting) => ['-o', setting]);
  if (!existsSync(lists)) {
    mkdirSync(join(lists, 'partial'), { recursive: true });
    // A list that cannot be had is told on standard error; what matters is whether the packages come.
    try {
      execFileSync('apt-get', [...options, 'update', '-qq'], QUIET);
    } catch {}
  }
  return options;
}

/** Downloads packages into `folder`. Throws where one cannot be had. */
export function download(folder: string, packages: readonly string[], architecture: Architecture): void {
  mkdirSync(folder, { recursive: true });
  const options = optionsFor(folder, architecture);
  execFileSync(
    'apt-get',
    // Downloads into a folder that is root's are not made by the user _apt, and apt would say so.
    [...options, '-o', 'APT::Sandbox::User=root', 'download', '-qq', ...packages],
    { ...QUIET, cwd: folder },
  );
}

/** Files of `folder` that are packages whose names begin like this. */
export function packageFiles(folder: string, name: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((file) => file.startsWith(`${name}_`) && file.endsWith('.deb'));
}

/** Downloads packages into `folder` and unpacks them below `folder`/root. */
export function unpack(folder: string, packages: readonly string[], architecture: Architecture): void {
  download(folder, packages, architecture);
  for (const file of packages.flatMap((name) => packageFiles(folder, name)))
    execFileSync('dpkg', ['-x', file, 'root'], { cwd: folder });
}

/** The package of the kernel that a metapackage stands for; a kernel's own package is itself. */
export function kernelPackage(folder: string, name: string, architecture: Architecture): string {
  mkdirSync(folder, { recursive: true });
  const options = optionsFor(folder, architecture);
  const depends = execFileSync('apt-cache', [...options, 'depends', name], { encoding: 'utf8' });
  return /Depends: (linux-image-\d\S*)/.exec(depends)?.[1] ?? name;
}
