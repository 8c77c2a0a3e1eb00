/** Machines that boot a Linux, each as a process whose console is a stream: ours, QEMU's TCG, Bochs and v86. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bochs } from '../src/peers/bochs.ts';
import {
  type LinuxSystem,
  type RunningProcess,
  startBochsLinux,
  startProgram,
  startQemu,
} from '../src/peers/linux/run-peer.ts';
import { qemu } from '../src/peers/qemu.ts';
import { projectFile } from './project.ts';

export interface LinuxMachine {
  readonly name: string;
  readonly version: string;
  start(system: LinuxSystem): Promise<RunningProcess>;
}

const COMMAND = fileURLToPath(projectFile('dist/cli/main.js'));
const V86_SCRIPT = fileURLToPath(projectFile('bench/v86.mjs'));
const SEABIOS = '/usr/share/seabios/bios.bin';
const VGA_BIOS = '/usr/share/seabios/vgabios-stdvga.bin';

const startNode = (args: readonly string[]): RunningProcess => startProgram(process.execPath, args);

/** Our machine, as `npm run build` has made it. */
function ours(): LinuxMachine {
  return {
    name: 'espfix',
    version: `espfix in Node ${process.versions.node}`,
    start: async ({ kernel, initrd, commandLine, cpus, memory }) =>
      startNode(
        [
          [COMMAND, 'run', kernel, '--initrd', initrd, '--append', commandLine],
          ['--cpus', String(cpus), '--memory', String(memory)],
        ].flat(),
      ),
  };
}

/** v86 from the npm registry, kept in a folder, with SeaBIOS of QEMU's packages; undefined where it cannot be had. */
function v86(folder: string): LinuxMachine | undefined {
  const library = join(folder, 'node_modules/v86/build/libv86.mjs');
  if (!existsSync(library)) {
    mkdirSync(folder, { recursive: true });
    const args = ['install', '--prefix', folder, '--no-audit', '--no-fund', '--silent', 'v86@0.5'];
    spawnSync('npm', args, { stdio: 'ignore' });
  }
  if (![library, SEABIOS, VGA_BIOS].every((file) => existsSync(file))) return undefined;
  return {
    name: 'v86',
    version: `v86 in Node ${process.versions.node}`,
    start: async ({ kernel, initrd, commandLine, memory }) =>
      startNode([V86_SCRIPT, library, SEABIOS, VGA_BIOS, kernel, initrd, commandLine, String(memory)]),
  };
}

/**
 * The machines that are there for a Linux.
 * @param is32 it is one for 32-bit processors, which v86 has
 * @param v86Folder where v86 is, or will be installed
 */
export function linuxMachines(is32: boolean, v86Folder: string): LinuxMachine[] {
  const machines: LinuxMachine[] = [ours()];
  const { version: qemuVersion } = qemu() ?? {};
  if (qemuVersion) machines.push({ name: 'qemu', version: qemuVersion, start: startQemu });
  const { version: bochsVersion } = bochs() ?? {};
  if (bochsVersion) machines.push({ name: 'bochs', version: bochsVersion, start: startBochsLinux });
  const other = is32 ? v86(v86Folder) : undefined;
  if (other) machines.push(other);
  return machines;
}
