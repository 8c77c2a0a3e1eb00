/** The command line: what there is to type. Everything that is costly to load is loaded by the command that needs it. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { MAX_IMAGE_CPUS, MAX_IMAGE_SEED } from '../kernel/limits.ts';
import { variantNames } from '../kernel/variants/index.ts';
import { MAX_CPUS, MAX_MEMORY_MIB } from '../machine/limits.ts';
import { EXIT_STATUS_HELP, INTERNAL } from './exit-status.ts';
import { describeFailure, UserError } from './failure.ts';
import type { Io } from './io.ts';

/** Processors of `espfix check`: more make it slow and answer nothing new. */
const MAX_CHECK_CPUS = 8;

const DESCRIPTION = 'An x86-64 machine, the espfix64 kernel on it, and a checker of its returns to user mode';

/** A parser of whole numbers in decimal or 0x hexadecimal. */
function wholeNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = /^(\d+|0x[\da-f]+)$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value >= from && value <= to))
      throw new InvalidArgumentError(`expected a whole number from ${from} to ${to}`);
    return value;
  };
}

function seconds(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value > 0 && value <= 1e6))
    throw new InvalidArgumentError('expected seconds, more than 0 and up to 1000000');
  return value;
}

function format(text: string): 'text' | 'json' {
  if (text !== 'text' && text !== 'json') throw new InvalidArgumentError('expected text or json');
  return text;
}

/** Runs `espfix` with these arguments and returns its exit status. Never throws. */
export async function espfix(args: readonly string[], io: Io): Promise<number> {
  let status = 0;
  const program = new Command('espfix').description(DESCRIPTION);
  const configure = (command: Command) =>
    command
      .exitOverride()
      .showSuggestionAfterError(false)
      .allowExcessArguments(false)
      .helpOption('-h, --help', 'show this help')
      .configureOutput({
        writeOut: (text) => io.stdout.write(text),
        writeErr: () => {},
        getOutHelpWidth: () => io.stdout.columns ?? 100,
        getOutHasColors: () => false,
      });
  configure(program);
  program.helpCommand(false);
  const add = (name: string) => configure(program.command(name));

  add('check')
    .description('check return paths to user mode: every built-in one against what it is documented to do')
    .option('--variant <name...>', `only these of ${variantNames.join(', ')}; exit 1 if any has findings`)
    .option('--format <format>', 'text or json', format, 'text' as const)
    .option(
      '--cpus <n>',
      `processors of the machine, 1 to ${MAX_CHECK_CPUS}`,
      wholeNumber(1, MAX_CHECK_CPUS),
      2,
    )
    .action(async (options) => {
      const { check } = await import('./check.ts');
      status = await check(options, io);
    });

  add('run')
    .description('boot a Multiboot 1 or PVH ELF image; COM1 is standard input and output')
    .argument('<image>', 'the image file')
    .option('--cpus <n>', `processors, 1 to ${MAX_CPUS}`, wholeNumber(1, MAX_CPUS), 1)
    .option('--memory <mib>', `memory in MiB, 1 to ${MAX_MEMORY_MIB}`, wholeNumber(1, MAX_MEMORY_MIB), 64)
    .option('--append <cmdline>', "the kernel's command line", '')
    .option('--initrd <file>', 'initial RAM disk, or Multiboot module')
    .option('--seed <n>', 'of the schedule and of random numbers', wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .option(
      '--max-instructions <n>',
      'end with status 8 after so many instructions',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .option('--timeout <seconds>', 'end with status 124 after so much time', seconds)
    .option('--trace <file>', 'write a line an instruction to this file')
    .addHelpText('after', '\n`espfix help exit-status` lists what the exit status tells.')
    .action(async (image: string, options) => {
      const { run } = await import('./run.ts');
      status = await run(image, options, io);
    });

  add('image')
    .description('write the bootable kernel image of a variant')
    .requiredOption('--variant <name>', `one of ${variantNames.join(', ')}`)
    .requiredOption('-o, --output <file>', 'the file to write')
    .option(
      '--cpus <n>',
      `most processors that it will start, 1 to ${MAX_IMAGE_CPUS}`,
      wholeNumber(1, MAX_IMAGE_CPUS),
      8,
    )
    .option('--seed <n>', 'moves stacks', wholeNumber(0, MAX_IMAGE_SEED), 1)
    .action(async (options) => {
      const { image } = await import('./image.ts');
      status = await image(options, io);
    });

  add('silicon')
    .description('measure IRET on this processor and compare the machine with it')
    .action(async () => {
      const { siliconCommand } = await import('../silicon/command.ts');
      status = await siliconCommand(io);
    });

  add('help')
    .description('show help on a command, or on exit-status')
    .argument('[topic]', 'a command, or exit-status')
    .action((topic?: string) => {
      if (topic === 'exit-status') {
        io.stdout.write(EXIT_STATUS_HELP);
        return;
      }
      const command = topic === undefined ? program : program.commands.find((one) => one.name() === topic);
      if (!command) throw new UserError(`help: no topic "${topic}", expected a command or exit-status`);
      io.stdout.write(command.helpInformation());
    });

  program
    .option('-V, --version', 'show the version')
    .allowExcessArguments(true)
    .action(async ({ version }: { version?: true }, { args: [name] }: Command) => {
      const commands = 'expected check, run, image, silicon or help';
      if (name !== undefined) throw new UserError(`unknown command "${name}": ${commands}`);
      if (!version) throw new UserError(`no command: ${commands}`);
      io.stdout.write(`${await packageVersion()}\n`);
    });

  try {
    try {
      await program.parseAsync(args, { from: 'user' });
    } catch (error) {
      // Help that was asked for comes as an error of status 0.
      if (!(error instanceof CommanderError)) throw error;
      if (error.exitCode !== 0) throw new UserError(error.message.replace(/^error: /, ''));
    }
    await io.stdout.flushed();
    return status;
  } catch (error) {
    const failure = describeFailure(error);
    try {
      if (failure.line) io.stderr.write(`espfix: ${failure.line}\n`);
      if (failure.status === INTERNAL && io.env.ESPFIX_STACK && error instanceof Error)
        io.stderr.write(`${error.stack}\n`);
    } catch {
      // Standard error is closed as well: the status alone must tell.
    }
    return failure.status;
  }
}

async function packageVersion(): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
