/** A kernel under test, led instruction by instruction into the schedule that shows a fault. */

import { SHADOW_MOV_SS } from '../../../isa/state.ts';
import { Machine, type Stop } from '../../../machine/machine.ts';
import { buildImage, type ImageOptions, type KernelImage } from '../../image.ts';
import type { ImageName } from './names.ts';

/** Most instructions on the way to a place. */
const PATIENCE = 300_000;
/** Instructions after which a kernel that has not reported is taken to hang. */
const LIMIT = 4_000_000;
/** DR6.B1. */
const BREAKPOINT_1 = 2;

export interface Led {
  readonly image: KernelImage;
  readonly machine: Machine;
  /** The address of a label. */
  at(label: string): bigint;
  /**
   * Runs CPU `cpu` alone until it stands at a label, or the condition holds. Throws if it never does, but not if the
   * machine ends on the way.
   */
  to(where: string | (() => boolean), cpu?: number): void;
  /** Runs CPU `cpu` alone for as many instructions, or until it stands at the label. */
  towards(label: string, instructions: number, cpu?: number): void;
  /** Runs CPU `cpu` alone until it enters user mode. */
  toUser(cpu?: number): void;
  /** Runs all CPUs until CPU 0 begins its cases. */
  toCases(): void;
  /** Runs all CPUs until CPU `cpu` is in user mode for the first time. */
  start(cpu: number): void;
  /** CPU 1 begins its cases, although CPU 0 has not finished. */
  wake(): void;
  event(kind: 'nmi' | 'mc' | 'mov-ss', cpu?: number): void;
  /** Whether GS base is the kernel's. */
  readonly kernelGs: boolean;
  /** Runs to the end: `ok` if all cases report that all is well, else the first that is not so. */
  result(): string;
}

/** Boots a kernel with few cases. */
export function lead(name: ImageName, options: ImageOptions & { readonly cpus: number }): Led {
  const image = buildImage(name, options);
  const machine = Machine.create({ cpus: options.cpus });
  machine.boot(image.elf);
  let text = '';
  let stopAt: string | undefined;
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
    if (stopAt !== undefined && text.endsWith(`${stopAt}`)) machine.stop();
  };
  const at = (label: string) => {
    const address = image.symbols.get(label);
    if (address === undefined) throw new Error(`${name} has no ${label}`);
    return address;
  };
  let ended: Stop | undefined;
  const step = (cpu: number) => {
    const stop = machine.runAlone(cpu, 1);
    if (stop.reason !== 'limit') ended ??= stop;
  };
  const led: Led = {
    image,
    machine,
    at,
    to(where, cpu = 0) {
      const place = typeof where === 'string' ? at(where) : undefined;
      const there = typeof where === 'string' ? () => machine.cpus[cpu].rip === place : where;
      for (let i = 0; i < PATIENCE && ended === undefined && !there(); i++) step(cpu);
      if (ended === undefined && !there()) throw new Error(`${name} never gets to ${where}`);
    },
    towards(label, instructions, cpu = 0) {
      for (let i = 0; i < instructions && machine.cpus[cpu].rip !== at(label); i++) step(cpu);
    },
    toUser(cpu = 0) {
      untilUser(cpu, () => machine.runAlone(cpu, LIMIT));
    },
    start(cpu) {
      untilUser(cpu, () => machine.run({ maxInstructions: LIMIT }));
    },
    toCases() {
      stopAt = '\ncapacity';
      machine.run({ maxInstructions: LIMIT });
      stopAt = undefined;
      led.to('run_case');
    },
    wake() {
      machine.writeMemory(at('turn'), Uint8Array.of(1));
      machine.injectNmi(1);
      led.to('run_case', 1);
    },
    event(kind, cpu = 0) {
      if (kind === 'nmi') machine.injectNmi(cpu);
      else if (kind === 'mc') machine.injectMachineCheck(cpu);
      else {
        machine.cpus[cpu].shadow = SHADOW_MOV_SS;
        machine.cpus[cpu].pendingDebug |= BREAKPOINT_1;
      }
    },
    get kernelGs() {
      return machine.registers()['gs.base'] >> 63n === 1n;
    },
    result() {
      return judge(ended ?? machine.run({ maxInstructions: LIMIT }), text);
    },
  };
  function untilUser(cpu: number, run: () => Stop): void {
    let there = false;
    const off = machine.on('privilege-change', (which, _from, to) => {
      if (which !== cpu || to !== 3) return;
      there = true;
      machine.stop();
    });
    run();
    off();
    if (!there) throw new Error(`${name}: CPU ${cpu} never gets to user mode`);
  }
  return led;
}

function judge(stop: Stop, text: string): string {
  if (stop.reason !== 'exit') return stop.reason;
  const oops = /oops vector=(\d+)/.exec(text);
  if (oops) return `oops ${oops[1]}`;
  const bad = /result=(\S+) ok=no/.exec(text);
  if (bad) return bad[1];
  return / ok=yes /.test(text) ? 'ok' : 'nothing';
}
