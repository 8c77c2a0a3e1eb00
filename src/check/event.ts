/**
 * What a processor can be interrupted by between two instructions, and how to make it happen there.
 *
 * SDM vol. 3A 6.3 to 6.9 (sources and priorities), 6.7.1 (NMI blocking), 6.8 (IF, MOV SS); vol. 3B 15.8 (machine
 * checks), 17.3.1 (debug exceptions).
 */
import type { Cpu } from '../arch/cpu.ts';
import { Fault } from '../arch/fault.ts';
import { deliverFault } from '../arch/interrupts.ts';
import { IF, RF } from '../isa/flags.ts';
import { RSP, SHADOW_MOV_SS, SHADOW_NONE } from '../isa/state.ts';
import type { Machine } from '../machine/machine.ts';

export const eventKinds = [
  /** Non-maskable interrupt. */
  'nmi',
  /** Machine check. */
  'mc',
  /** An external interrupt through the local APIC, where RFLAGS.IF allows. */
  'irq',
  /** The local APIC's spurious interrupt: the vector without a service to end. */
  'spurious',
  /** An instruction breakpoint on the coming instruction (a fault). */
  'db-code',
  /** A data breakpoint hit by the instruction before (a trap). */
  'db-data',
  /** The single-step trap after the instruction before. */
  'db-step',
  /**
   * User mode's last instruction before the kernel is MOV SS with a data breakpoint on its operand: the trap waits
   * until the kernel's first instruction. Only where user mode is about to enter the kernel by an instruction.
   */
  'mov-ss',
  /** The coming instruction faults; only where the subject says that it may. */
  'fault',
] as const;

/** What trials beyond the exploration bring (`explore/trials.ts`). */
export const trialKinds = [
  /** An instruction breakpoint on the coming instruction that stays: RF or DR7 must keep it from being met again at once. */
  'db-stays',
  /** User mode's stack pointer is `pointer`. */
  'stack-pointer',
  /** User mode has a data breakpoint, on an address that nobody touches. */
  'watch',
] as const;
export type EventKind = (typeof eventKinds)[number] | (typeof trialKinds)[number];

/** A fault that an instruction may raise by the kernel's own design. */
export interface FaultDetail {
  readonly vector: number;
  readonly error?: number;
  /** CR2, for page faults. */
  readonly address?: bigint;
}

/** One event of a schedule. */
export interface ScheduledEvent {
  readonly kind: EventKind;
  /**
   * The boundary: instructions executed and events delivered by the processor since the beginning of the visit, with
   * the earlier events of the schedule.
   */
  readonly at: number;
  /** Of `irq`: its vector. */
  readonly vector?: number;
  readonly fault?: FaultDetail;
  /** Of `stack-pointer`. */
  readonly pointer?: bigint;
}

/**
 * Whether user mode may well notice: a fault that an instruction raises by design is told to the task. What it sees then
 * is not compared with a run without events.
 */
export const noticed = (schedule: Schedule): boolean => schedule.some(({ kind }) => kind === 'fault');

/** Events in the order of their boundaries. */
export type Schedule = readonly ScheduledEvent[];

const CR4_MCE = 1n << 6n;
const MCG_MCIP = 4n;
/** DR6.B1 and DR6.BS. */
const B1 = 2;
const BS = 0x4000;
/** DR7.L3 with a breakpoint on execution of one byte at DR3. */
const DR7_L3 = 0x40n;
const DR7_FIELDS_3 = 0xf000_0000n;
/** The same for DR2. */
const DR7_L2 = 0x10n;
const DR7_FIELDS_2 = 0x0f00_0000n;
/** DR7.L0 with a breakpoint on writes of one byte at DR0. */
const DR7_WATCH = 0x1_0001n;
const DR7_FIELDS_0 = 0xf_0000n;
/** Canonical, in user mode's half, in a page of nobody. */
const WATCHED = 0x5a5a_a5a5_0000n;

/**
 * Whether the event would be delivered at this very boundary. One that is held off (NMI in an NMI, an interrupt with
 * IF clear, anything in the shadow of MOV SS) waits for a later boundary, and is the same as one that comes there.
 */
export function deliverable(cpu: Cpu, kind: EventKind): boolean {
  const held = cpu.shadow === SHADOW_MOV_SS;
  switch (kind) {
    case 'nmi':
      // A debug trap that waits here comes first.
      return !held && cpu.pendingDebug === 0 && cpu.nmiBlocked === 0 && cpu.nmiPending === 0;
    case 'mc':
      // A second machine check while MCIP is set shuts the processor down, whatever the kernel does.
      return (cpu.cr4 & CR4_MCE) !== 0n && (cpu.mcgStatus & MCG_MCIP) === 0n && cpu.machineCheckPending === 0;
    case 'irq':
    case 'spurious':
      return (
        cpu.shadow === SHADOW_NONE &&
        cpu.pendingDebug === 0 &&
        (cpu.flagsRest & IF) !== 0n &&
        cpu.acknowledged === 0
      );
    case 'db-code':
    case 'db-stays':
      // Nor is it met between the iterations of a repeated string instruction.
      return !held && (cpu.flagsRest & RF) === 0n && cpu.pendingDebug === 0 && cpu.repeating === 0;
    case 'db-data':
    case 'db-step':
      return !held && cpu.pendingDebug === 0;
    case 'mov-ss':
      return cpu.cpl === 3 && cpu.shadow === SHADOW_NONE && cpu.pendingDebug === 0;
    case 'stack-pointer':
      return cpu.cpl === 3;
    case 'watch':
    case 'fault':
      return true;
  }
}

/**
 * Makes the event happen at the boundary at which the processor stands.
 * @returns whether the machine took it: a disabled local APIC takes no interrupt
 */
export function inject(machine: Machine, index: number, event: Omit<ScheduledEvent, 'at'>): boolean {
  const cpu = machine.cpus[index];
  switch (event.kind) {
    case 'nmi':
      machine.injectNmi(index);
      return true;
    case 'mc':
      machine.injectMachineCheck(index);
      return true;
    case 'irq':
      if (!machine.injectInterrupt(event.vector ?? 0, index)) return false;
      return cpu.interrupts.pending();
    case 'spurious':
      cpu.acknowledged = spuriousVector(machine, index) + 1;
      return true;
    case 'db-code':
      cpu.dr[3] = linearRip(cpu);
      cpu.dr[7] = (cpu.dr[7] & ~DR7_FIELDS_3) | DR7_L3;
      return true;
    case 'db-stays':
      cpu.dr[2] = linearRip(cpu);
      cpu.dr[7] = (cpu.dr[7] & ~DR7_FIELDS_2) | DR7_L2;
      return true;
    case 'stack-pointer':
      cpu.gpr[RSP] = event.pointer ?? 0n;
      return true;
    case 'watch':
      cpu.dr[0] = WATCHED;
      cpu.dr[7] = (cpu.dr[7] & ~DR7_FIELDS_0) | DR7_WATCH;
      return true;
    case 'db-data':
      cpu.pendingDebug |= B1;
      return true;
    case 'db-step':
      cpu.pendingDebug |= BS;
      return true;
    case 'mov-ss':
      cpu.shadow = SHADOW_MOV_SS;
      cpu.pendingDebug |= B1;
      return true;
    case 'fault': {
      const { vector, error, address } = event.fault ?? { vector: 13, error: 0 };
      if (address !== undefined) cpu.cr2 = address;
      deliverFault(cpu, new Fault(vector, error));
      cpu.instructions++;
      return true;
    }
  }
}

const linearRip = (cpu: Cpu): bigint => (cpu.mode64 ? cpu.rip : (cpu.codeBase + cpu.rip) & 0xffff_ffffn);

/** The vector of an NMI or machine check. */
export function vectorOf(event: Pick<ScheduledEvent, 'kind'> | undefined): number | undefined {
  return event?.kind === 'nmi' ? 2 : event?.kind === 'mc' ? 18 : undefined;
}

/** After an instruction breakpoint was met it is gone, with its address: one event is met once. */
export function disarm(cpu: Cpu): void {
  cpu.dr[3] = 0n;
  cpu.dr[7] &= ~DR7_L3;
}

/** Whether {@link inject} has armed an instruction breakpoint. */
export function armed(cpu: Cpu): boolean {
  return (cpu.dr[7] & DR7_L3) !== 0n;
}

const APIC_SVR = 0xf0;

function spuriousVector(machine: Machine, index: number): number {
  return machine.localApicRegister(APIC_SVR, index) & 0xff;
}

/** How an event is called in reports. */
export function describeEvent(event: Omit<ScheduledEvent, 'at'>): string {
  switch (event.kind) {
    case 'nmi':
      return 'NMI';
    case 'mc':
      return '#MC';
    case 'irq':
      return `interrupt 0x${(event.vector ?? 0).toString(16)}`;
    case 'spurious':
      return 'spurious interrupt';
    case 'db-code':
      return '#DB (instruction breakpoint)';
    case 'db-stays':
      return '#DB (instruction breakpoint that stays)';
    case 'stack-pointer':
      return `RSP of user mode 0x${(event.pointer ?? 0n).toString(16)}`;
    case 'watch':
      return 'a data breakpoint of user mode';
    case 'db-data':
      return '#DB (data breakpoint)';
    case 'db-step':
      return '#DB (single step)';
    case 'mov-ss':
      return '#DB held off by MOV SS';
    case 'fault': {
      const { vector, error } = event.fault ?? { vector: 13, error: 0 };
      return `fault ${vector}${error === undefined ? '' : ` (error 0x${error.toString(16)})`}`;
    }
  }
}
