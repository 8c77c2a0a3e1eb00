/** The command line: what there is to type. Everything that is costly to load is loaded by the command that needs it. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { WindowName } from '../check/interleave/builtin.ts';
import { MAX_CHECK_CPUS, MAX_DEPTH } from '../check/limits.ts';
import { MAX_IMAGE_CPUS, MAX_IMAGE_SEED } from '../kernel/limits.ts';
import { variantNames } from '../kernel/variants/index.ts';
import { DEFAULT_MEMORY, LINUX_MEMORY, MAX_CPUS, MAX_MEMORY_MIB } from '../machine/limits.ts';
import { EXIT_STATUS_HELP, INTERNAL } from './exit-status.ts';
import { describeFailure, UserError } from './failure.ts';
import type { Io } from './io.ts';

const MAX_PREEMPTIONS = 8;
/** As `check/interleave/builtin.ts`, which is costly to load, has them. */
const WINDOWS = [
  'set-up',
  'set-up-and-return',
  'returns',
  'threads',
] as const satisfies readonly WindowName[];

const CHECK_HELP = `
Explored kernels exit with 0 if they are clean, 1 with findings, 3 if nothing was found but not all was tried;
\`espfix help exit-status\` lists the rest.`;

const RUN_HELP = `
At a terminal, Ctrl-A x ends espfix and Ctrl-A h shows what else there is.
\`espfix help exit-status\` lists what the exit status tells.`;

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

/** A time in seconds since 1970. */
function clock(text: string): number {
  const LATEST = 2 ** 33;
  const milliseconds =
    text === 'now' ? Date.now() : /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  const value = Math.floor(milliseconds / 1000);
  if (!(value >= 0 && value <= LATEST))
    throw new InvalidArgumentError('expected now, seconds since 1970, or a time like 2026-11-22T12:00:00Z');
  return value;
}

function consoleName(text: string): 'serial' | 'virtio' {
  if (text !== 'serial' && text !== 'virtio') throw new InvalidArgumentError('expected serial or virtio');
  return text;
}

/** `--snapshot-at TEXT FILE` as two options of one value each. */
function withPairs(args: readonly string[]): string[] {
  const at = args.indexOf('--snapshot-at');
  if (at < 0 || args[0] !== 'run') return [...args];
  const [text, file] = args.slice(at + 1, at + 3);
  if (text === undefined || file === undefined)
    throw new UserError('--snapshot-at: expected a text and a file');
  if (text === '') throw new UserError('--snapshot-at: expected a text that is not empty');
  return [...args.slice(0, at), `--snapshot-at=${text}`, `--snapshot-to=${file}`, ...args.slice(at + 3)];
}

const FORMATS = ['text', 'json', 'junit', 'sarif', 'html'] as const;

function format(text: string): (typeof FORMATS)[number] {
  const found = FORMATS.find((one) => one === text);
  if (!found) throw new InvalidArgumentError(`expected one of ${FORMATS.join(', ')}`);
  return found;
}

function frames(text: string): 'one' | 'all' {
  if (text !== 'one' && text !== 'all') throw new InvalidArgumentError('expected one or all');
  return text;
}

/** Options of `check` that are about exploring a kernel: neither the fixed cases nor interleavings have them. */
const exploring = [
  'linux',
  'patch',
  'snapshot',
  'patience',
  'frames',
  'coverage',
  'save',
  'journal',
  'resume',
  'events',
  'plan',
  'depth',
  'memory',
  'cpu',
  'append',
  'initrd',
  'symbols',
] as const;

/** Checks what stands for `--cpu`. @returns whether it was `help`, which is given */
async function toldModels(cpu: string | undefined, io: Io): Promise<boolean> {
  if (cpu === undefined) return false;
  const { checkModel, cpuHelp } = await import('./cpu-option.ts');
  if (cpu === 'help') io.stdout.write(cpuHelp());
  else checkModel(cpu);
  return cpu === 'help';
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
    .description(
      'check return paths to user mode: every built-in one against what it is documented to do; ' +
        'an image, or variants with --depth, --events or --plan, by interrupting each instruction of the kernel',
    )
    .argument('[image]', 'a kernel image, as `espfix run` boots them')
    .option('--variant <name...>', `only these of ${variantNames.join(', ')}; exit 1 if any has findings`)
    .option('--depth <n>', `events in a schedule, 0 to ${MAX_DEPTH}; default 1`, wholeNumber(0, MAX_DEPTH))
    .option(
      '--events <list>',
      'events to try, separated by commas; default: all that the kernel has handlers for',
    )
    .option('--plan <file>', 'what to check, in JSON or TypeScript (docs/plan.md)')
    .option('--format <format>', FORMATS.join(', '), format, 'text' as const)
    .option('-o, --output <file>', 'write the report to this file')
    .option('--coverage', 'list each boundary and what interrupted it')
    .option('--save <folder>', 'write each finding to a file for `espfix replay`')
    .option('--jobs <n>', 'worker threads; default: one a processor', wholeNumber(1, 1024))
    .option('--journal <file>', 'keep what is done in this file')
    .option('--resume <file>', 'go on with a journal')
    .option(
      '--cpus <n>',
      `processors of the machine, 1 to ${MAX_CHECK_CPUS}; default 2, explored: 1`,
      wholeNumber(1, MAX_CHECK_CPUS),
    )
    .option('--memory <mib>', 'memory for an image in MiB; default 64', wholeNumber(1, MAX_MEMORY_MIB))
    .option('--cpu <model>', "an image's processors: model and features, as with `espfix run`")
    .option('--append <cmdline>', "an image's command line")
    .option('--initrd <file>', "an image's initial RAM disk, or Multiboot module")
    .option('--linux <bzimage>', 'a Linux kernel, for its returns to 16-bit stacks (docs/linux.md)')
    .option(
      '--patch <change...>',
      'with --linux: SYMBOL+OFFSET=OLD:NEW, bytes of the kernel in memory to be changed',
    )
    .option('--snapshot <file>', 'with --linux: the booted system, read from this file or kept in it')
    .option(
      '--patience <n>',
      'with --linux: instructions within which its /init has to be ready',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .option('--symbols <file>', "an image's symbols: an ELF file or a System.map; default: the image's own")
    .option(
      '--frames <which>',
      "return frames of a variant, explored: one ministack (default), or all: a page's first, its last and " +
        'a random one, with one processor and with two (--cpus: more)',
      frames,
    )
    .option(
      '--interleavings',
      'schedules of several processors instead: set-up of ministacks and returns at once',
    )
    .option(
      '--preemptions <n>',
      `with --interleavings: preemptions in a schedule, 0 to ${MAX_PREEMPTIONS}; default 2`,
      wholeNumber(0, MAX_PREEMPTIONS),
    )
    .option('--window <name...>', `with --interleavings: only these of ${WINDOWS.join(', ')}`)
    .addHelpText('after', CHECK_HELP)
    .action(async (image: string | undefined, options) => {
      const given = exploring.find((name) => options[name] !== undefined);
      if (options.interleavings) {
        if (given !== undefined) throw new UserError(`--${given}: not with --interleavings`);
        if (image !== undefined) throw new UserError('--interleavings: expected --variant, not an image');
        const { interleave } = await import('./interleave.ts');
        status = await interleave(options, io);
        return;
      }
      if (await toldModels(options.cpu, io)) return;
      for (const name of ['preemptions', 'window'] as const)
        if (options[name] !== undefined) throw new UserError(`--${name}: only with --interleavings`);
      if ([image, options.output, options.jobs, given].every((each) => each === undefined)) {
        const { check } = await import('./check.ts');
        status = await check(options, io);
      } else {
        const { explore } = await import('./explore.ts');
        status = await explore(image, options, io);
      }
    });

  add('replay')
    .description('replay a finding of `espfix check --save` instruction by instruction')
    .argument('<finding>', 'the file')
    .option('--to <n>', 'show all up to this boundary, and the registers there', wholeNumber(0, 1e9))
    .option('--trace <file>', 'write a line an instruction to this file')
    .option('--image <file>', 'the image, where it is elsewhere now')
    .action(async (finding: string, options) => {
      const { replay } = await import('./replay.ts');
      status = await replay(finding, options, io);
    });

  const plan = add('plan').description('plan files of `espfix check` (docs/plan.md)');
  configure(plan.command('init'))
    .description('watch an image and write a first plan for it')
    .argument('<image>', 'a kernel image, as `espfix run` boots them')
    .option('-o, --output <file>', 'the file, .json or .ts; default: JSON on standard output')
    .option(
      '--cpus <n>',
      `processors of the machine, 1 to ${MAX_CHECK_CPUS}; default 1`,
      wholeNumber(1, MAX_CHECK_CPUS),
    )
    .option('--memory <mib>', 'memory in MiB; default 64', wholeNumber(1, MAX_MEMORY_MIB))
    .option('--cpu <model>', 'model of the processors and features, as with `espfix run`')
    .option('--append <cmdline>', "the kernel's command line")
    .action(async (image: string, options) => {
      if (await toldModels(options.cpu, io)) return;
      const { planInit } = await import('./plan-init.ts');
      status = await planInit(image, options, io);
    });
  plan.action(() => {
    throw new UserError('plan: no command: expected init');
  });

  add('run')
    .description(
      'boot a Linux bzImage, or a Multiboot or PVH image, or go on with a snapshot; ' +
        'its console is standard input and output',
    )
    .argument('[image]', 'the image or snapshot file')
    .option('--cpus <n>', `processors, 1 to ${MAX_CPUS}; default 1`, wholeNumber(1, MAX_CPUS))
    .option(
      '--cpu <model>',
      'model of the processors, and features: haswell,-avx2,+sha; --cpu help lists them',
    )
    .option(
      '--memory <mib>',
      `memory in MiB, 1 to ${MAX_MEMORY_MIB}; default ${DEFAULT_MEMORY}, for Linux ${LINUX_MEMORY}`,
      wholeNumber(1, MAX_MEMORY_MIB),
    )
    .option('--append <cmdline>', "the kernel's command line; default for Linux: console=ttyS0")
    .option('--initrd <file>', 'initial RAM disk, or Multiboot module')
    .option('--disk <file>', 'virtio disk with what is in the file; writes stay in memory')
    .option('--disk-write', 'writes to the disk go to the file')
    .option('--share <folder>', 'folder that the guest mounts by 9P (tag "share"), to be read only')
    .option('--share-write', 'the guest may write to the folder')
    .option('--console <which>', 'where input goes: serial or virtio', consoleName, 'serial' as const)
    .option(
      '--clock <time>',
      'what the clock shows at first: now, seconds since 1970, or 2026-11-22T12:00:00Z',
      clock,
    )
    .option('--realtime', 'guest time keeps to the time of this host; at a terminal it does unasked')
    .option('--no-realtime', 'guest time passes at once while the guest waits')
    .option('--snapshot-at <text> <file>', 'write a snapshot to the file when the console prints the text')
    .addOption(new Option('--snapshot-to <file>').hideHelp())
    .option('--seed <n>', 'of the schedule and of random numbers', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .option(
      '--max-instructions <n>',
      'end with status 8 after so many instructions',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .option('--timeout <seconds>', 'end with status 124 after so much time', seconds)
    .option('--trace <file>', 'write a line an instruction to this file')
    .addHelpText('after', RUN_HELP)
    .action(async (image: string | undefined, options) => {
      if (await toldModels(options.cpu, io)) return;
      if (image === undefined) throw new UserError("missing required argument 'image'");
      if (options.diskWrite && !options.disk) throw new UserError('--disk-write: expected with --disk');
      if (options.shareWrite && !options.share) throw new UserError('--share-write: expected with --share');
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
      const commands = 'expected check, replay, plan, run, image, silicon or help';
      if (name !== undefined) throw new UserError(`unknown command "${name}": ${commands}`);
      if (!version) throw new UserError(`no command: ${commands}`);
      const { packageVersion } = await import('./version.ts');
      io.stdout.write(`${await packageVersion()}\n`);
    });

  try {
    try {
      await program.parseAsync(withPairs(args), { from: 'user' });
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
