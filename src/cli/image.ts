/** `espfix image`: writes the bootable kernel image of a variant. */
import { buildImage } from '../kernel/image.ts';
import { variantOf } from './check.ts';
import { CLEAN } from './exit-status.ts';
import { writeOutput } from './files.ts';
import type { Io } from './io.ts';

export interface ImageCommandOptions {
  readonly variant: string;
  readonly output: string;
  readonly cpus: number;
  readonly seed: number;
}

/** Builds and writes the image; returns the exit status. */
export async function image(options: ImageCommandOptions, io: Io): Promise<number> {
  const name = variantOf(options.variant);
  const { elf } = buildImage(name, { cpus: options.cpus, seed: options.seed });
  await writeOutput(options.output, elf);
  if (io.stderr.isTerminal) io.stderr.write(`${options.output}: ${name}, ${elf.length} bytes\n`);
  return CLEAN;
}
