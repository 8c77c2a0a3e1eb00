/**
 * A kernel built from source: the smallest configuration and what fixtures/linux/kernel.config adds to it. Source and
 * compiler given, the image is the same each time.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CONFIGURATION = fileURLToPath(new URL('../../../fixtures/linux/kernel.config', import.meta.url));

/** What a build would write of itself into the image. */
const IDENTITY = {
  KBUILD_BUILD_TIMESTAMP: '2000-01-01 00:00:00 UTC',
  KBUILD_BUILD_USER: 'espfix',
  KBUILD_BUILD_HOST: 'espfix',
  KBUILD_BUILD_VERSION: '1',
};

/** Options that a configuration sets to y. */
export function optionsSet(configuration: string): string[] {
  return [...configuration.matchAll(/^(CONFIG_\w+)=y$/gm)].map((match) => match[1] ?? '');
}

function make(source: string, ...targets: string[]): void {
  try {
    execFileSync('make', ['-s', ...targets], {
      cwd: source,
      env: { ...process.env, ...IDENTITY },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? error);
    throw new Error(`make ${targets.join(' ')} in ${source} has failed:\n${said.slice(-2000)}`);
  }
}

/**
 * Configures and builds the kernel of a source folder; returns the paths of the bzImage and of its System.map. Throws where
 * a tool fails, or the kernel's configuration does not take an option.
 */
export function buildKernel(source: string): { readonly image: string; readonly map: string } {
  const wanted = readFileSync(CONFIGURATION, 'utf8');
  const config = join(source, '.config');
  make(source, 'tinyconfig');
  appendFileSync(config, wanted);
  make(source, 'olddefconfig');
  const taken = new Set(optionsSet(readFileSync(config, 'utf8')));
  const refused = optionsSet(wanted).filter((option) => !taken.has(option));
  if (refused.length > 0) throw new Error(`not in the kernel's configuration: ${refused.join(', ')}`);
  make(source, `-j${availableParallelism()}`, 'bzImage');
  return { image: join(source, 'arch/x86/boot/bzImage'), map: join(source, 'System.map') };
}
