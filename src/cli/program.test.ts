/** The command line: what is refused and how, and what `--help` costs. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { variantNames } from '../kernel/variants/index.ts';
import { helloImage } from '../peers/flat-image.fixture.ts';
import { EXIT_STATUS_HELP } from './exit-status.ts';
import { type CapturedIo, capturedIo } from './io.fixture.ts';
import { OutputGone } from './io.ts';
import { espfix } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, bytes: Uint8Array | string) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const hello = helloImage('hello\n', 3);
const helloFile = file('hello.elf', hello);
const truncated = file('truncated.elf', hello.subarray(0, 60));
const text = file('text', 'not an image');
const empty = file('empty', '');

describe('bad usage and bad input: one line that says what was expected, status 2', () => {
  const cases: [args: string[], line: RegExp][] = [
    [[], /no command: expected check, replay, plan, run/],
    [['frobnicate'], /unknown command "frobnicate": expected check, replay, plan, run/],
    [['--frobnicate'], /unknown option '--frobnicate'/],
    [['check', '--frobnicate'], /unknown option '--frobnicate'/],
    [['check', 'a', 'b'], /too many arguments/],
    [['check', join(folder, 'absent')], /absent: no such file or directory/],
    [['check', helloFile, '--variant', 'linux'], /expected an image or --variant, not both/],
    [['check', '--depth', '1'], /expected an image or --variant/],
    [['check', '--variant', 'linux', '--depth', '9'], /--depth.*'9'.*expected a whole number from 0 to 8/],
    [['check', '--variant', 'nope', '--depth', '1'], /--variant nope: unknown, .* cve-2014-9322/],
    [['check', '--variant', 'linux', '--events', 'nmi,smi'], /--events: "smi" is none of nmi, mc/],
    [['check', '--variant', 'linux', '--depth', '1', '--memory', '9'], /--memory: only with an image/],
    [['check', '--variant', 'linux', '--append', 'quiet'], /--append: only with an image/],
    [['check', '--variant', 'linux', '--cpu', 'haswell'], /--cpu: only with an image/],
    [['check', helloFile, '--cpu', 'hasbeen'], /--cpu hasbeen: .*espfix run --cpu help lists all/],
    [
      ['check', helloFile, '--plan', file('old.json', '{"machine":{"cpu":"hasbeen"}}')],
      /old.json: machine.cpu: hasbeen: .*espfix run --cpu help lists all/,
    ],
    [['check', '--variant', 'linux', 'none', '--plan', text], /--plan: expected one variant with it/],
    [['check', '--variant', 'linux', '--plan', text], /text: expected a plan in a file of type .json or .ts/],
    [['check', '--variant', 'linux', '--plan', join(folder, 'absent.json')], /absent.json: no such file/],
    [['check', '--variant', 'linux', '--plan', file('cut.json', '{"depth": ')], /cut.json: .*JSON/],
    [
      ['check', '--variant', 'linux', '--plan', file('deep.json', '{"depth": "2"}')],
      /deep.json: depth: expected a whole number from 0 to 8, found "2"/,
    ],
    [
      [
        'check',
        '--variant',
        'linux',
        '--plan',
        file('lost.json', '{"faultable":[{"at":"main","faults":[]}]}'),
      ],
      /lost.json: faultable\[0\].at: linux has no symbol "main"/,
    ],
    [
      ['check', '--variant', 'linux', '--plan', file('none.ts', 'export const plan: number = 1;')],
      /none.ts: expected a default export: export default definePlan/,
    ],
    [['check', '--variant', 'linux', '--plan', file('bad.ts', 'export default {')], /bad.ts: .+/],
    [
      ['check', '--variant', 'linux', '--resume', file('other.journal', '{}\n')],
      /other.journal: expected a journal of espfix check/,
    ],
    [['check', '--variant', 'linux', '--journal', text], /--journal .*text: the file exists; --resume/],
    [['check', '--variant', 'linux', '--journal', 'a', '--resume', 'b'], /--journal or --resume, not both/],
    [['check', '--format', 'sarif'], /--format sarif: only where a kernel is explored/],

    [['replay', text], /text: expected a finding of espfix check --save/],
    [['replay', file('empty.json', '{}')], /empty.json: format: missing/],
    [['plan'], /plan: no command: expected init/],

    [
      ['plan', 'init', helloFile, '-o', 'plan.txt'],
      /--output plan.txt: expected a file of type .json or .ts/,
    ],
    [['check', '--variant'], /--variant.*argument missing/],
    [['check', '--variant', 'nope'], /--variant nope: unknown, expected one of none, prototype, linux/],
    [['check', '--format', 'xml'], /--format.*'xml'.*expected one of text, json, junit, sarif, html/],
    [['check', '--cpus', '9'], /--cpus.*'9'.*expected a whole number from 1 to 8/],
    [['run'], /missing required argument 'image'/],
    [['run', 'a', 'b'], /too many arguments for 'run'/],
    [['run', join(folder, 'absent')], /absent: no such file or directory/],
    [['run', folder], /: is a directory, expected a file/],
    [['run', join(helloFile, 'below')], /: a part of the path is not a directory/],
    [['run', `${folder}/nul\0`], /nul\\x00: not a file name/],
    [['run', `${folder}/two\nlines`], /two\\x0alines: no such file or directory/],
    [['run', text], /text: format: expected a Linux bzImage, an ELF executable or a Multiboot image/],
    [['run', empty], /empty: format: expected/],
    [['run', truncated], /truncated.elf: .*expected/],
    [['run', helloFile, '--memory', '1'], /hello.elf: ELF segment 0: .*expected within RAM/],
    [['run', helloFile, '--memory', '0'], /--memory.*'0'.*expected a whole number from 1 to 3072/],
    [['run', helloFile, '--memory', '1e3'], /--memory.*expected a whole number/],
    [['run', helloFile, '--cpus', '-1'], /--cpus.*expected a whole number from 1 to 64/],
    [['run', helloFile, '--timeout', '0'], /--timeout.*expected seconds/],
    [['run', helloFile, '--timeout', 'soon'], /--timeout.*expected seconds/],
    [['run', helloFile, '--max-instructions', '0'], /--max-instructions.*expected a whole number from 1/],
    [['run', helloFile, '--initrd', join(folder, 'absent')], /absent: no such file or directory/],
    [['run', helloFile, '--trace', join(folder, 'absent', 'trace')], /trace: no such file or directory/],
    [['run', helloFile, '--trace', folder], /: is a directory, expected a file/],
    [['image', '--variant', 'none'], /required option '-o, --output <file>' not specified/],
    [['image', '-o', 'x'], /required option '--variant <name>' not specified/],
    [['image', '--variant', 'nope', '-o', 'x'], /--variant nope: unknown, expected one of/],
    [['image', '--variant', 'none', '-o', join(folder, 'absent', 'x')], /x: no such file or directory/],
    [
      ['image', '--variant', 'none', '-o', 'x', '--cpus', '65'],
      /--cpus.*'65'.*expected a whole number from 1 to 64/,
    ],
    [
      ['image', '--variant', 'none', '-o', 'x', '--seed', '0x80000000'],
      /--seed.*expected .* 0 to 2147483647/,
    ],
    [['image', '--variant', 'none', '-o', folder], /: is a directory, expected a file/],
    [['silicon', 'more'], /too many arguments for 'silicon'/],
    [['help', 'nope'], /help: no topic "nope"/],
  ];

  it.each(cases)('espfix %j', async (args, line) => {
    const io = capturedIo('');
    expect(await espfix(args, io)).toBe(2);
    expect(io.out()).toBe('');
    expect(io.err()).toMatch(/^espfix: [^\n]+\n$/);
    expect(io.err()).toMatch(line);
  });
});

describe('help', () => {
  it.each([
    [['--help'], /Commands:/],
    [['run', '--help'], /--max-instructions/],
    [['help', 'run'], /--max-instructions/],
    [['help'], /Commands:/],
    [['--version'], /^\d+\.\d+\.\d+\n$/],
  ])('espfix %j', async (args, pattern) => {
    const io = capturedIo('');
    expect(await espfix(args, io)).toBe(0);
    expect(io.out()).toMatch(pattern);
    expect(io.err()).toBe('');
  });

  it('names every exit status', async () => {
    const io = capturedIo('');
    expect(await espfix(['help', 'exit-status'], io)).toBe(0);
    expect(io.out()).toBe(EXIT_STATUS_HELP);
  });

  it('names the variants', async () => {
    const io = capturedIo('');
    await espfix(['image', '--help'], io);
    expect(io.out().replaceAll(/\s+/g, ' ')).toContain(variantNames.join(', '));
  });

  it('loads nothing but commander before a command is chosen', () => {
    const packages = new Set<string>();
    const files = new Set<string>();
    const visit = (path: string) => {
      if (files.has(path)) return;
      files.add(path);
      const source = readFileSync(path, 'utf8');
      for (const [, from] of source.matchAll(/^(?:import|export)\s+(?!type\b)[^;]*?from\s+'([^']+)';/gms)) {
        if (from.startsWith('.')) visit(resolve(dirname(path), from));
        else packages.add(from);
      }
    };
    visit(fileURLToPath(new URL('./main.ts', import.meta.url)));
    expect([...packages]).toEqual(['commander']);
    const sources = fileURLToPath(new URL('..', import.meta.url));
    expect([...files].map((path) => relative(sources, path).replaceAll('\\', '/')).sort()).toEqual([
      'check/limits.ts',
      'check/plan-error.ts',
      'cli/exit-status.ts',
      'cli/failure.ts',
      'cli/io.ts',
      'cli/main.ts',
      'cli/program.ts',
      'kernel/limits.ts',
      'kernel/variants/index.ts',
      'machine/limits.ts',
    ]);
  });
});

describe('standard output that cannot be written', () => {
  const unwritable = (code: string): CapturedIo => {
    const io = capturedIo('');
    const error = Object.assign(new Error(`write ${code}`), { code });
    return { ...io, stdout: { ...io.stdout, flushed: () => Promise.reject(new OutputGone(error)) } };
  };

  it.each([
    ['EPIPE', ''],
    ['ENOSPC', 'espfix: standard output: no space left on the device\n'],
  ])('%s: status 74', async (code, line) => {
    for (const args of [['--help'], ['help', 'exit-status'], ['run', helloFile]]) {
      const io = unwritable(code);
      expect([await espfix(args, io), io.err()]).toEqual([74, line]);
    }
  });
});
