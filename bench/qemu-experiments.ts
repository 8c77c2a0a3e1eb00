/**
 * The checker's experiment driven from outside, on QEMU: go back to a snapshot, go so many instructions on, inject an
 * NMI, run to the return to user mode and look at the registers. What the checker does within one process takes here a
 * savevm/loadvm, single steps over the gdbstub and the monitor's `nmi`.
 */
import { spawn, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildImage } from '../src/kernel/image.ts';
import { Machine } from '../src/machine/machine.ts';
import { ended, firstLineOf, runTool, Tail, tether, withTemporaryDirectory } from '../src/peers/process.ts';
import { GdbRemote, ripOf } from './gdb-remote.ts';
import { Qmp } from './qmp.ts';

const QEMU = 'qemu-system-x86_64';
const SNAPSHOT = 'start';

/** A visit to the kernel. */
export interface Visit {
  /** A Multiboot image. */
  readonly image: Uint8Array;
  /** Linear address of the user instruction that enters the kernel, and of the one that it returns to. */
  readonly start: bigint;
  readonly end: bigint;
  /** Where NMIs arrive in the kernel: the first experiment makes sure that they do. */
  readonly nmiEntry: bigint;
}

export interface QemuOptions extends Visit {
  /** Boundaries from `start` on at which NMIs are injected, in turn: at most the instructions from `start` to `end`. */
  readonly steps: number;
  readonly count: number;
  /** Wall-clock seconds for all of it; 120 unless told. */
  readonly timeout?: number;
}

export interface QemuExperiments {
  readonly count: number;
  readonly perSecond: number;
  /** Milliseconds of the average experiment. */
  readonly where: {
    /** loadvm. */
    readonly restore: number;
    /** Single steps to the boundary. */
    readonly step: number;
    readonly inject: number;
    /** From there to the return to user mode. */
    readonly run: number;
    /** All registers. */
    readonly read: number;
  };
  /** Instructions stepped over in the average experiment. */
  readonly stepped: number;
  /** Experiments after which the registers were what they are without an NMI. */
  readonly unchanged: number;
}

/** Why experiments on QEMU cannot be made here; undefined where they can. */
export function qemuExperimentsUnfit(): string | undefined {
  if (firstLineOf(QEMU, ['--version'], /version (\S+)/) === undefined) return `${QEMU} is not installed`;
  if (spawnSync('qemu-img', ['--version'], { stdio: 'ignore' }).error) return 'qemu-img is not installed';
  return undefined;
}

/** INT 0x80 of 32-bit code on a 16-bit stack in the `linux` variant: in, and back through a ministack. */
export function linuxVisit(): Visit & { readonly steps: number } {
  const { elf, symbols } = buildImage('linux', {
    cpus: 1,
    only: (c) => c.path === 'int80' && c.cs === 'cs32-gdt' && c.ss === 'ss16-ldt' && c.set === 0x5aad_c0de,
  });
  const address = (name: string) => {
    const at = symbols.get(name);
    if (at === undefined) throw new Error(`the image has no ${name}`);
    return at;
  };
  const start = address('target.32.int80');
  // INT imm8 has two bytes.
  const visit = { image: elf, start, end: start + 2n, nmiEntry: address('vector.2') };
  const machine = Machine.create();
  machine.boot(elf);
  const [cpu] = machine.cpus;
  machine.trace = () => {
    if (cpu.rip === start) machine.stop();
  };
  machine.run({ maxInstructions: 100_000_000 });
  machine.trace = undefined;
  let steps = 0;
  for (; cpu.rip !== visit.end; steps++) machine.step();
  return { ...visit, steps };
}

/** Makes experiments. Rejects with one line where QEMU is missing or does not do its part. */
export async function measureQemuExperiments(options: QemuOptions): Promise<QemuExperiments> {
  const unfit = qemuExperimentsUnfit();
  if (unfit !== undefined) throw new Error(`experiments on QEMU: ${unfit}`);
  return withTemporaryDirectory(async (directory) => {
    const kernel = join(directory, 'kernel.elf');
    const disk = join(directory, 'snapshots.qcow2');
    const socket = join(directory, 'gdb');
    await writeFile(kernel, options.image);
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '64M']);
    const child = spawn(
      QEMU,
      [
        ['-accel', 'tcg', '-cpu', 'max', '-m', '64', '-smp', '1', '-kernel', kernel, '-S'],
        ['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-no-reboot'],
        ['-serial', 'null', '-monitor', 'none', '-qmp', 'stdio'],
        ['-gdb', `unix:${socket},server=on,wait=off`],
        ['-drive', `if=none,format=qcow2,file=${disk}`],
      ].flat(),
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    tether(child);
    const log = new Tail();
    child.stderr.on('data', (data: Buffer) => log.push(data));
    const gone = ended(child);
    const { timeout = 120 } = options;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeout * 1000);
    try {
      const qmp = await Qmp.start(child.stdout, child.stdin);
      const gdb = new GdbRemote(await connected(socket));
      return await experiment(options, qmp, gdb).finally(() => gdb.close());
    } catch (error) {
      if (late) throw new Error(`experiments on QEMU: not done within ${timeout} s`);
      const said = log.text.trim().split('\n').at(-1) ?? '';
      throw said === '' ? error : new Error(`${error instanceof Error ? error.message : error} (${said})`);
    } finally {
      clearTimeout(timer);
      child.kill('SIGKILL');
      await gone;
    }
  });
}

async function experiment(options: QemuOptions, qmp: Qmp, gdb: GdbRemote): Promise<QemuExperiments> {
  const { start, end, nmiEntry, steps, count } = options;
  const goTo = async (address: bigint) => {
    await gdb.setBreakpoint(address);
    await gdb.continue();
    await gdb.clearBreakpoint(address);
  };
  await goTo(start);
  await qmp.monitor(`savevm ${SNAPSHOT}`);
  await goTo(end);
  const reference = await gdb.registers();

  await qmp.monitor(`loadvm ${SNAPSHOT}`);
  await qmp.execute('inject-nmi');
  await goTo(nmiEntry);
  const arrived = ripOf(await gdb.registers());
  if (arrived !== nmiEntry) throw new Error(`experiments on QEMU: an NMI led to 0x${arrived.toString(16)}`);

  await gdb.setBreakpoint(end);
  const spent = { restore: 0, step: 0, inject: 0, run: 0, read: 0 };
  let stepped = 0;
  let unchanged = 0;
  let mark = performance.now();
  const lap = (part: keyof typeof spent) => {
    const now = performance.now();
    spent[part] += now - mark;
    mark = now;
  };
  const began = mark;
  for (let n = 0; n < count; n++) {
    await qmp.monitor(`loadvm ${SNAPSHOT}`);
    lap('restore');
    // Spread over the boundaries, however few experiments there are.
    const boundary = Math.floor((n * steps) / count);
    for (let i = 0; i < boundary; i++) await gdb.step();
    stepped += boundary;
    lap('step');
    await qmp.execute('inject-nmi');
    lap('inject');
    await gdb.continue();
    lap('run');
    if ((await gdb.registers()) === reference) unchanged++;
    lap('read');
  }
  const total = performance.now() - began;
  const { restore, step, inject, run, read } = spent;
  return {
    count,
    perSecond: (count * 1000) / total,
    where: {
      restore: restore / count,
      step: step / count,
      inject: inject / count,
      run: run / count,
      read: read / count,
    },
    stepped: stepped / count,
    unchanged,
  };
}

/** QEMU opens its sockets at its own time. */
async function connected(path: string): Promise<Socket> {
  for (let tries = 0; ; tries++) {
    try {
      return await new Promise<Socket>((resolve, reject) => {
        const socket = connect(path, () => resolve(socket));
        socket.once('error', reject);
      });
    } catch (error) {
      if (tries === 100) throw error;
      await sleep(50);
    }
  }
}
