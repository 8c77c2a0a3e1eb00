/**
 * What the tests of whole Linux systems have in common. They take half a minute or more each and are skipped unless ESPFIX_LINUX
 * names folders that `npm run linux` has filled, with colons between them; files of their own let them run side by side.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { shareFolder } from '../../cli/shared-folder.ts';
import { Machine } from '../../machine/machine.ts';

export const folders = (process.env.ESPFIX_LINUX ?? '').split(':').filter((name) => name !== '');
/** A suite for each of them. */
export const eachKernel = describe
  .skipIf(folders.length === 0)
  .each(folders.length === 0 ? ['no kernel'] : folders);
/** Milliseconds for a boot on a busy computer. */
export const BOOT_TIMEOUT = 20 * 60_000;

const PROMPT = '/ # ';
/** Where kernels of 64 and of 32 bits are that do not move themselves: CONFIG_PHYSICAL_START, and that where they map it. */
const LINKED = [0x100_0000n, 0xffff_ffff_8100_0000n, 0xc100_0000n];
/** Instructions between two looks at what has been printed. */
const SLICE = 1_000_000;
const MOST = 20e9;

export const vmlinuz = (folder: string): Uint8Array => readFileSync(join(folder, 'vmlinuz'));

/** Whether a folder's kernel has a module. */
function hasModule(folder: string, name: string): boolean {
  const modules = join(folder, 'root/lib/modules');
  return (
    existsSync(modules) &&
    readdirSync(modules, { recursive: true }).some((path) => path.includes(`/${name}.ko`))
  );
}

/** Types each line at a prompt of its own; returns what is printed until the machine is off. */
function session(machine: Machine, folder: string, commandLine: string, lines: readonly string[]): string {
  const decoder = new TextDecoder();
  let output = '';
  let typed = 0;
  let seen = 0;
  machine.serial.onOutput = (byte) => {
    output += decoder.decode(Uint8Array.of(byte), { stream: true });
  };
  machine.boot(vmlinuz(folder), { commandLine, initrd: readFileSync(join(folder, 'initrd.gz')) });
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

export interface Booted {
  /** The machine, turned off by the kernel. */
  readonly machine: Machine;
  /** The linear address of the kernel's first byte, as it says itself. */
  readonly text: bigint;
}

/**
 * Boots to the shell, has it run programs and read and write a shared folder where the kernel can, and turns it off. The kernel has
 * moved itself (KASLR): that it is by chance where it would have been anyway, in linear and in physical memory, is one case in 100,000.
 */
export function expectShell(
  folder: string,
  { commandLine, ...machineOptions }: { cpus: number; commandLine: string; seed?: number },
): Booted {
  const shared = mkdtempSync(join(tmpdir(), 'espfix-share-'));
  try {
    writeFileSync(join(shared, 'from-host'), 'a word of the host\n');
    mkdirSync(join(shared, 'folder'));
    const isShared = hasModule(folder, '9p');
    const machine = Machine.create({
      ...machineOptions,
      memory: 512,
      console: true,
      entropy: true,
      share: shareFolder(shared, true),
    });
    const output = session(machine, folder, commandLine, [
      'grep -c ^processor /proc/cpuinfo | sed s/^/processors:/',
      'grep -m 1 " _text$" /proc/kallsyms; grep "Kernel code" /proc/iomem',
      'seq 1 1000 | md5sum',
      'echo compressed | gzip | gunzip',
      'awk "BEGIN { printf \\"%.6f\\\\n\\", 22 / 7 }"',
      // Each on a processor of its own, where there are several.
      'for i in 1 2 3 4; do (seq 1 2000 | md5sum) & done; wait',
      ...(isShared
        ? [
            'mount -t 9p -o trans=virtio,version=9p2000.L share /mnt && tr a-z A-Z </mnt/from-host',
            'seq 1 1000 >/mnt/folder/from-guest; mv /mnt/folder/from-guest /mnt/folder/moved; ls /mnt/folder',
          ]
        : []),
      'poweroff -f',
    ]);
    expect(output).toContain(`processors:${machineOptions.cpus}\r\n`);
    expect(output).toContain('53d025127ae99ab79e8502aae2d9bea6  -\r\n');
    expect(output).toContain('\ncompressed\r\n');
    expect(output).toContain('3.142857\r\n');
    expect(output.split('ea4d0a24dabcaa11f9aa979b872d162b  -\r\n')).toHaveLength(5);
    expect(output).not.toMatch(/BUG:|Oops|Call Trace/);
    const address = (match: RegExpExecArray | null) => BigInt(`0x${match?.[1]}`);
    const text = address(/^([0-9a-f]+) T _text\r$/m.exec(output));
    const physical = address(/^ *([0-9a-f]+)-[0-9a-f]+ : Kernel code\r$/m.exec(output));
    expect(LINKED.includes(text) && LINKED.includes(physical)).toBe(false);
    if (isShared) {
      expect(output).toContain('A WORD OF THE HOST\r\n');
      const numbers = Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join('');
      expect(readFileSync(join(shared, 'folder/moved'), 'utf8')).toBe(numbers);
    }
    return { machine, text };
  } finally {
    rmSync(shared, { recursive: true });
  }
}
