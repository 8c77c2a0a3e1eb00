/**
 * Events at an instruction boundary, by priority. SDM vol. 3A 6.9, table 6-2; 6.8.3 (MOV SS), 6.7.1 (NMI blocking), 10.4.4
 * (INIT and SIPI), 15.8 (machine checks), 17.3.1.
 */
import { IF } from '../isa/flags.ts';
import { offsetOf, RUNNING, SHADOW_MOV_SS, SHADOW_NONE, SHUTDOWN, WAIT_FOR_SIPI } from '../isa/state.ts';
import { CR4_MCE } from './control-registers.ts';
import type { Cpu, EventSource } from './cpu.ts';
import { setDebugStatus } from './debug.ts';
import { deliverException, deliverFault, shutDown } from './exceptions.ts';
import { DB, Fault, MC, NMI } from './fault.ts';
import { deliver, NO_STEP_TRAP } from './interrupts.ts';
import { initReset, startUp } from './reset.ts';

const FLAGS = offsetOf('flagsRest') / 4;
const IF_BIT = Number(IF);

/** IA32_MCG_STATUS. */
const MCG_RIPV = 1n;
const MCG_MCIP = 4n;

/**
 * Looks at what waits at an instruction boundary, with RIP at the next instruction, and delivers the first of:
 * machine check, INIT or SIPI, debug traps, NMI, external interrupt. Wakes a halted processor. To be called again until
 * it answers false: more may wait.
 *
 * Debug traps, NMIs and interrupts are held off in the shadow of MOV SS, interrupts in that of STI; who runs the next
 * instruction ends the shadow.
 * @returns whether something was delivered
 */
export function serviceBoundary(cpu: Cpu): boolean {
  if (cpu.pendingDebug !== 0) cpu.pendingDebug &= ~NO_STEP_TRAP;
  if (cpu.activity === WAIT_FOR_SIPI) return serviceWaiting(cpu);
  if (cpu.machineCheckPending !== 0 && cpu.activity !== SHUTDOWN) return deliverMachineCheck(cpu);
  if (cpu.initPending !== 0) {
    initReset(cpu);
    return true;
  }
  if (cpu.shadow === SHADOW_MOV_SS) return false;
  if (cpu.activity === SHUTDOWN && cpu.nmiPending === 0) return false;
  if (cpu.pendingDebug !== 0) return deliverTraps(cpu);
  if (cpu.nmiPending !== 0 && cpu.nmiBlocked === 0) return deliverNmi(cpu);
  if (
    cpu.shadow === SHADOW_NONE &&
    (cpu.u32[FLAGS] & IF_BIT) !== 0 &&
    cpu.activity !== SHUTDOWN &&
    (cpu.acknowledged !== 0 || cpu.interrupts.pending())
  ) {
    return deliverExternal(cpu);
  }
  return false;
}

function deliverExternal(cpu: Cpu): boolean {
  const vector = cpu.acknowledged === 0 ? cpu.interrupts.acknowledge() : cpu.acknowledged - 1;
  cpu.acknowledged = 0;
  const delivered = take(cpu, vector, 'external');
  if (!delivered) cpu.acknowledged = vector + 1;
  return delivered;
}

function serviceWaiting(cpu: Cpu): boolean {
  if (cpu.sipiPending === 0) return false;
  startUp(cpu, cpu.sipiVector);
  return true;
}

/** Delivers an event that is not an exception; faults on the way are delivered after it. */
function take(cpu: Cpu, vector: number, source: EventSource): boolean {
  const activity = cpu.activity;
  cpu.activity = RUNNING;
  try {
    const delivered = deliver(cpu, vector, source);
    if (!delivered) cpu.activity = activity;
    return delivered;
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    deliverFault(cpu, fault);
    return true;
  }
}

function deliverNmi(cpu: Cpu): boolean {
  cpu.nmiPending = 0;
  const delivered = take(cpu, NMI, 'nmi');
  if (!delivered) cpu.nmiPending = 1;
  return delivered;
}

function deliverTraps(cpu: Cpu): boolean {
  const { activity, pendingDebug } = cpu;
  const status = cpu.dr[6];
  cpu.activity = RUNNING;
  cpu.pendingDebug = 0;
  setDebugStatus(cpu, pendingDebug);
  deliverException(cpu, DB, undefined);
  if (!cpu.stopRequested) return true;
  cpu.activity = activity;
  cpu.pendingDebug = pendingDebug;
  cpu.dr[6] = status;
  return false;
}

/** #MC; without CR4.MCE, or while one is being handled, the processor shuts down. */
function deliverMachineCheck(cpu: Cpu): boolean {
  if ((cpu.cr4 & CR4_MCE) === 0n || (cpu.mcgStatus & MCG_MCIP) !== 0n) {
    cpu.machineCheckPending = 0;
    shutDown(cpu);
  }
  const { activity, mcgStatus } = cpu;
  cpu.machineCheckPending = 0;
  cpu.mcgStatus |= MCG_MCIP | MCG_RIPV;
  cpu.activity = RUNNING;
  deliverException(cpu, MC, undefined);
  if (!cpu.stopRequested) return true;
  cpu.machineCheckPending = 1;
  cpu.mcgStatus = mcgStatus;
  cpu.activity = activity;
  return false;
}
