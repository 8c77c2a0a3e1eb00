/**
 * Linux boots to a shell that runs commands, and turns the machine off. Skipped unless ESPFIX_LINUX names a folder that
 * `npm run linux` has filled: it takes a minute or more for each.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Machine } from '../../machine/machine.ts';

const folder = process.env.ESPFIX_LINUX ?? '';
const MINUTES = 20;
const PROMPT = '/ # ';
/** Instructions between two looks at what has been printed. */
const SLICE = 1_000_000;
const MOST = 20e9;

/** Types each line at a prompt of its own; returns what is printed until the machine is off. */
function session(cpus: number, lines: readonly string[]): string {
  const machine = Machine.create({ cpus, memory: 512, console: true, entropy: true });
  const decoder = new TextDecoder();
  let output = '';
  let typed = 0;
  let seen = 0;
  machine.serial.onOutput = (byte) => {
    output += decoder.decode(Uint8Array.of(byte), { stream: true });
  };
  machine.boot(readFileSync(join(folder, 'vmlinuz')), {
    commandLine: 'console=ttyS0',
    initrd: readFileSync(join(folder, 'initrd.gz')),
  });
  while (machine.instructions < MOST) {
    const stop = machine.run({ maxInstructions: SLICE });
    if (stop.reason === 'power-off') return output;
    if (stop.reason !== 'limit') throw new Error(`${JSON.stringify(stop)}\n${output.slice(-2000)}`);
    const prompt = output.indexOf(PROMPT, seen);
    if (prompt < 0 || typed === lines.length) continue;
    seen = output.length;
    machine.serial.write(new TextEncoder().encode(`${lines[typed++]}\n`));
  }
  throw new Error(`not off after ${MOST} instructions\n${output.slice(-2000)}`);
}

describe.skipIf(folder === '')('Linux', () => {
  it.each([1, 4])(
    'with %i processors',
    (cpus) => {
      const output = session(cpus, [
        'grep -c ^processor /proc/cpuinfo | sed s/^/processors:/',
        'seq 1 1000 | md5sum',
        'echo compressed | gzip | gunzip',
        'awk "BEGIN { printf \\"%.6f\\\\n\\", 22 / 7 }"',
        'poweroff -f',
      ]);
      expect(output).toContain(`processors:${cpus}\r\n`);
      expect(output).toContain('53d025127ae99ab79e8502aae2d9bea6  -\r\n');
      expect(output).toContain('\ncompressed\r\n');
      expect(output).toContain('3.142857\r\n');
      expect(output).not.toMatch(/BUG:|Oops|Call Trace/);
    },
    MINUTES * 60_000,
  );
});
