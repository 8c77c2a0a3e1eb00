/** `espfix check --linux`: what is refused, each in one line. A Linux that boots is in src/peers/linux/espfix.test.ts. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { SAYS } from '../check/linux/program.ts';
import { al, createAssembler, dx } from '../kernel/assembler.ts';
import { bzImage } from '../machine/boot/bz-image.fixture.ts';
import { capturedIo } from './io.fixture.ts';
import { espfix } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'espfix-linux-'));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: string | Uint8Array) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};

/** A kernel that prints a text and then waits for ever, or turns for ever. */
function kernel(text: string, turns = false): Uint8Array {
  const a = createAssembler();
  a.section('code').bits(64);
  for (const character of text) {
    a.mov(dx, 0x3f8);
    a.mov(al, character.charCodeAt(0));
    a.out(dx, al);
  }
  a.label('end');
  if (turns) a.jmp('end');
  a.cli();
  a.hlt();
  return bzImage(a.link(new Map([['code', 0n]])).sections.get('code')?.bytes);
}

const quiet = file('quiet', kernel(''));
const says = (text: string) => `never becomes ready ("${SAYS.ready}" on the serial line): ${text}`;

async function refused(...args: string[]): Promise<string> {
  const io = capturedIo('');
  expect(await espfix(['check', ...args], io)).toBe(2);
  expect(io.out()).toBe('');
  const lines = io.err().trimEnd().split('\n');
  return lines.at(-1) ?? '';
}

describe('a kernel', () => {
  it.each([
    ['a text', 'hello', [], 'not a Linux bzImage: expected its setup header ("HdrS" at 0x202)'],
    ['that waits', kernel(''), [], says('ended by deadlock after 2 instructions')],
    ['that turns', kernel('', true), ['--patience', '1000'], says('not in 1000 instructions')],
    ['without 16-bit segments', kernel(SAYS.refused), [], 'modify_ldt refuses 16-bit segments'],
    [
      'without symbols',
      kernel(SAYS.ready),
      [],
      'the kernel has no symbols in memory (CONFIG_KALLSYMS): give',
    ],
    [
      'with symbols of another',
      kernel(SAYS.ready),
      ['--symbols', file('System.map', 'ffffffff81000000 T start\n')],
      'no symbol "entry_SYSCALL_64": not the symbols of a 64-bit Linux kernel',
    ],
    [
      'without espfix64',
      kernel(SAYS.ready),
      ['--symbols', file('espfix.map', '0000000000000000 T start\nffffffff81000000 T entry_SYSCALL_64\n')],
      'no symbol "native_irq_return_ldt": a kernel without CONFIG_X86_ESPFIX64',
    ],
  ])('%s', async (name, content, options, message) => {
    const image = file(name, content);
    expect(await refused('--linux', image, ...options)).toContain(`espfix: ${image}: ${message}`);
  });

  it('that is not there', async () => {
    expect(await refused('--linux', join(folder, 'none'))).toBe(
      `espfix: ${join(folder, 'none')}: no such file or directory`,
    );
  });
});

describe('options', () => {
  it.each([
    [['--linux', quiet, '--patch', 'entry'], '--patch entry: expected SYMBOL+OFFSET=OLD:NEW'],
    [
      ['--linux', quiet, '--patch', 'entry=7:90'],
      '--patch entry=7:90: expected two hexadecimal digits a byte',
    ],
    [[quiet, '--linux', quiet], 'expected an image or --linux, not both'],
    [[quiet, '--patch', 'entry=90'], '--patch: only with --linux'],
    [['--variant', 'linux', '--snapshot', 'x'], '--snapshot: only with --linux'],
    [['--linux', quiet, '--variant', 'linux'], 'expected an image or --variant, not both'],
    [['--interleavings', '--variant', 'linux', '--linux', quiet], '--linux: not with --interleavings'],
    [['--linux', quiet, '--patience', '0'], "option '--patience <n>' argument '0' is invalid"],
    [
      ['--linux', quiet, '--plan', file('plan.json', '{"ready":{"instructions":5}}')],
      'ready: expected serial: a Linux kernel is ready when its /init says so',
    ],
  ])('%j', async (args, message) => {
    expect(await refused(...args)).toContain(message);
  });
});

describe('--snapshot', () => {
  it('keeps the booted system, and is not taken for that of another kernel or of other options', async () => {
    const kept = join(folder, 'kept');
    const image = file('ready', kernel(SAYS.ready));
    expect(await refused('--linux', image, '--snapshot', kept)).toContain('has no symbols');
    expect(existsSync(kept)).toBe(true);
    // It is not booted again: that would take more instructions.
    expect(await refused('--linux', image, '--snapshot', kept, '--patience', '1')).toContain(
      'has no symbols',
    );
    expect(await refused('--linux', quiet, '--snapshot', kept)).toBe(
      `espfix: ${kept}: booted with another kernel: remove it, or name another file`,
    );
    expect(await refused('--linux', image, '--snapshot', kept, '--append', 'pti=on')).toContain(
      'booted with another command line',
    );
    expect(await refused('--linux', image, '--snapshot', quiet)).toContain('expected a booted system');
  });

  it('is a file of the run where nobody names one', async () => {
    await refused('--linux', file('ready', kernel(SAYS.ready)));
    const left = readdirSync(tmpdir()).filter((name) => name.startsWith(`espfix-${process.pid}-`));
    expect(left.filter((name) => name.includes('.booted'))).toEqual([]);
  });
});
