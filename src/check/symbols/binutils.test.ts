/** Names and lines of the C kernel are those that nm and addr2line (GNU Binutils) find in it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { buildCKernel, cKernelHere } from '../subjects/c-kernel.fixture.ts';
import { readSymbols } from './symbols.ts';

const here = cKernelHere();
const directory = mkdtempSync(join(tmpdir(), 'espfix-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function binutils(tool: string, image: Uint8Array, args: readonly string[], input = ''): string[] {
  const file = join(directory, 'kernel.elf');
  writeFileSync(file, image);
  const result = spawnSync(tool, [...args, file], {
    encoding: 'utf8',
    input,
  });
  if (result.status !== 0) throw new Error(`${tool}: ${result.stderr}`);
  return result.stdout.split('\n').filter((line) => line !== '');
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

describe.skipIf(!here).each(['-gdwarf-2', '-gdwarf-3', '-gdwarf-4', '-gdwarf-5'])('%s', (debug) => {
  it('every address of the code has the line that addr2line gives', () => {
    const image = buildCKernel({ format: 'elf64', debug });
    const symbols = readSymbols(image);
    expect(symbols.problems).toEqual([]);
    const text = symbols.address('trap_stubs') ?? 0n;
    const ranges: [bigint, bigint][] = [
      [0x10_0000n, 0x10_0100n],
      [symbols.address('user_a') ?? 0n, (symbols.address('user_b') ?? 0n) + 8n],
      [text, text + 0x2800n],
    ];
    const addresses: bigint[] = [];
    for (const [start, end] of ranges) for (let at = start; at < end; at++) addresses.push(at);
    const lines = binutils('addr2line', image, ['-s', '-e'], addresses.map(hex).join('\n'));
    expect(lines.length).toBe(addresses.length);
    let known = 0;
    const differing = addresses.flatMap((address, i) => {
      const line = symbols.line(address);
      const own = line ? `${line.file.replace(/^.*\//, '')}:${line.line}` : '??:0';
      const theirs = lines[i].replace(/ \(discriminator \d+\)$/, '').replace(/:\?$/, ':0');
      if (line) known++;
      return own === theirs ? [] : [`${hex(address)} ${own}, addr2line ${theirs}`];
    });
    expect(differing).toEqual([]);
    expect(known).toBeGreaterThan(5000);
  });
});

describe.skipIf(!here)('names', () => {
  it.each(['elf32', 'elf64'] as const)('of an %s are those of nm, as a file and as its text', (format) => {
    const image = buildCKernel({ format });
    const lines = binutils('nm', image, []);
    const fromFile = readSymbols(image);
    const fromText = readSymbols(new TextEncoder().encode(lines.join('\n')));
    let places = 0;
    for (const line of lines) {
      const [digits, type, name] = line.split(' ');
      const address = BigInt(`0x${digits}`);
      if (lines.filter((other) => other.endsWith(` ${name}`)).length > 1) continue;
      expect([name, fromFile.address(name)]).toEqual([name, address]);
      expect([name, fromText.address(name)]).toEqual([name, address]);
      if (!/[tT]/.test(type)) continue;
      places++;
      const place = fromFile.at(address);
      const there = lines
        .filter((other) => other.startsWith(`${digits} `))
        .map((other) => other.split(' ')[2]);
      expect(there).toContain(place?.name);
      expect(place?.offset).toBe(0n);
    }
    expect(places).toBeGreaterThan(30);
  });

  it('are there when lines are compressed, which is said', () => {
    const symbols = readSymbols(
      buildCKernel({ format: 'elf64', debug: '-g -gz -Wl,--compress-debug-sections=zlib' }),
    );
    expect(symbols.problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^\.debug_line: compressed, expected plain/),
    ]);
    expect(symbols.describe(symbols.address('syscall_entry') ?? 0n)).toBe('syscall_entry');
  });
});
