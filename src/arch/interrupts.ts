/**
 * Delivery of interrupts and exceptions through the IDT.
 *
 * SDM vol. 3A 6.10 to 6.14 (protected and 64-bit mode), 20.1.4 (real-address mode), 20.3 (virtual-8086 mode),
 * 17.3.1.1 (RF); vol. 2A "INT n/INTO/INT3/INT1" for the order of the checks and their error codes.
 */
import { AC, IF, NT, RF, readFlagsDword, TF, VM } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, RSP, SHADOW_NONE, SS } from '../isa/state.ts';
import {
  announcePrivilege,
  enterCode,
  is64BitCode,
  isCode,
  isConforming,
  isReservedSize,
  targetIn,
} from './code-segment.ts';
import type { Cpu, EventSource } from './cpu.ts';
import {
  type Descriptor,
  INTERRUPT_GATE,
  INTERRUPT_GATE16,
  readDescriptor,
  setAccessed,
  TASK_GATE,
  TRAP_GATE,
  TRAP_GATE16,
} from './descriptors.ts';
import { DB, Fault, GP, gp, MC, NP, np, SS as STACK_FAULT, TS } from './fault.ts';
import { innerRsp, innerStack, interruptStackRsp } from './inner-stack.ts';
import { readLinear, SYSTEM } from './linear.ts';
import { deliverOrdinary } from './ordinary-frames.ts';
import { setNull, setReal, setSegment } from './segmentation.ts';
import { PushStack, setStackPointer } from './stack.ts';
import { newTaskSegment, switchTask } from './task-switch.ts';

export { deliverFault } from './exceptions.ts';

const TF_BIT = Number(TF);
const RF_BIT = Number(RF);

/** DR7.GD. */
const DR7_GD = 1n << 13n;

/**
 * In `pendingDebug`, above the bits of DR6: no single-step trap follows the instruction in progress, since what it
 * did cleared TF (SDM vol. 3A 17.3.1.4). Only meaningful until the instruction's end.
 */
export const NO_STEP_TRAP = 0x8000_0000;

/**
 * Delivers interrupt or exception `vector`: pushes RFLAGS, CS and RIP (as they are: a fault's RIP is that of its
 * instruction), and what else mode and privilege ask for, and goes on at the handler.
 *
 * Raises #GP, #NP, #SS, #TS and #PF, with the EXT bit in the error code unless `source` is INT n, INT3 or INTO; nothing
 * has changed then but pushed slots, accessed bits and NMI blocking.
 * @returns false if a hook asked to stop, with nothing delivered
 */
export function deliver(cpu: Cpu, vector: number, source: EventSource, errorCode?: number): boolean {
  if (cpu.hooks.deliver?.(cpu, vector, errorCode, source)) {
    cpu.stopRequested = true;
    cpu.engine.endRun();
    return false;
  }
  if (source === 'nmi') cpu.nmiBlocked = 1;
  if ((source === 'exception' || source === 'int1') && vector === DB) cpu.dr[7] &= ~DR7_GD;
  const software = source === 'software' || source === 'int3' || source === 'into';
  // Faults resume their instruction past its breakpoint, and so do events between the iterations of a repeated string
  // instruction (measured); #DB, traps, aborts and interrupts do not otherwise.
  let image = readFlagsDword(cpu);
  if (image & TF_BIT) cpu.pendingDebug |= NO_STEP_TRAP;
  if (software || source === 'int1') image &= ~RF_BIT;
  else if (cpu.repeating !== 0 || (source === 'exception' && vector !== DB && vector !== MC)) image |= RF_BIT;
  const from = cpu.cpl;
  if (!cpu.longMode || !deliverOrdinary(cpu, vector, software, image, errorCode)) {
    try {
      deliverChecked(cpu, vector, software, BigInt(image), errorCode);
    } catch (fault) {
      throw fault instanceof Fault && !software ? external(fault) : fault;
    }
  }
  cpu.shadow = SHADOW_NONE;
  cpu.repeating = 0;
  announcePrivilege(cpu, from);
  cpu.hooks.delivered?.(cpu, vector);
  return true;
}

/** Delivery with every check, in every mode. */
function deliverChecked(
  cpu: Cpu,
  vector: number,
  software: boolean,
  image: bigint,
  errorCode: number | undefined,
): void {
  if (cpu.longMode) deliverLong(cpu, vector, software, image, errorCode);
  else if (cpu.protectedMode) deliverProtected(cpu, vector, software, image, errorCode);
  else deliverReal(cpu, vector, image);
}

/** The fault with EXT set in its error code, where that is a selector (SDM vol. 3A 6.13). */
function external(fault: Fault): Fault {
  const { vector, errorCode } = fault;
  const selectorCode = vector === TS || vector === NP || vector === STACK_FAULT || vector === GP;
  return selectorCode && errorCode !== undefined ? new Fault(vector, errorCode | 1) : fault;
}

/** An error code that names IDT entry `vector`. */
function idtCode(vector: number): number {
  return (vector << 3) | 2;
}

function clearFlags(cpu: Cpu, cleared: bigint): void {
  cpu.flagsRest &= ~cleared;
}

function deliverReal(cpu: Cpu, vector: number, image: bigint): void {
  const at = vector * 4;
  if (at + 3 > cpu.idtrLimit) throw gp(idtCode(vector));
  const pointer = Number(readLinear(cpu, cpu.idtrBase + BigInt(at), 4, SYSTEM));
  const stack = PushStack.current(cpu, false);
  stack.requireRoom(3, 2);
  stack.push(2, image);
  stack.push(2, BigInt(cpu.segSelector[CS]));
  stack.push(2, cpu.rip);
  setStackPointer(cpu, stack.pointer);
  clearFlags(cpu, IF | TF | AC | RF);
  setReal(cpu, CS, pointer >>> 16);
  cpu.rip = BigInt(pointer & 0xffff);
}

/** The code segment of an interrupt or trap gate. Raises #GP(0) for a null selector, #GP(CS), #NP(CS). */
function handlerSegment(cpu: Cpu, selector: number): Descriptor {
  const index = selector & 0xfffc;
  if (index === 0) throw gp();
  const d = readDescriptor(cpu, selector);
  if (!isCode(d) || d.dpl > cpu.cpl) throw gp(index);
  return d;
}

function deliverProtected(
  cpu: Cpu,
  vector: number,
  software: boolean,
  image: bigint,
  errorCode: number | undefined,
): void {
  const at = vector * 8;
  if (at + 7 > cpu.idtrLimit) throw gp(idtCode(vector));
  const bits = readLinear(cpu, (cpu.idtrBase + BigInt(at)) & 0xffff_ffffn, 8, SYSTEM);
  const low = Number(bits & 0xffff_ffffn);
  const high = Number(bits >> 32n);
  const type = (high >>> 8) & 0x1f;
  const wide = type === INTERRUPT_GATE || type === TRAP_GATE;
  if (!wide && type !== INTERRUPT_GATE16 && type !== TRAP_GATE16 && type !== TASK_GATE) {
    throw gp(idtCode(vector));
  }
  if (software && ((high >>> 13) & 3) < cpu.cpl) throw gp(idtCode(vector));
  if ((high & 0x8000) === 0) throw np(idtCode(vector));
  const selector = low >>> 16;
  if (type === TASK_GATE) {
    switchTask(cpu, newTaskSegment(cpu, selector, 'interrupt'), 'interrupt', { image, errorCode });
    return;
  }

  const code = handlerSegment(cpu, selector);
  const index = selector & 0xfffc;
  if (!code.present) throw np(index);
  const offset = wide ? BigInt(((high & 0xffff_0000) | (low & 0xffff)) >>> 0) : BigInt(low & 0xffff);
  const size = wide ? 4 : 2;
  const slots = errorCode === undefined ? 3 : 4;
  const v86 = (cpu.flagsRest & VM) !== 0n;
  const inner = !isConforming(code) && code.dpl < cpu.cpl;
  if (v86 && (!inner || code.dpl !== 0)) throw gp(index);

  let stack: PushStack;
  let level = cpu.cpl;
  let stackSegment: Descriptor | undefined;
  if (inner) {
    level = code.dpl;
    const { segment, pointer } = innerStack(cpu, level);
    stackSegment = segment;
    stack = PushStack.inSegment(cpu, segment, pointer, level);
    stack.requireRoom(slots + (v86 ? 6 : 2), size);
  } else {
    stack = PushStack.current(cpu, false);
    stack.requireRoom(slots, size);
  }
  const rip = targetIn(cpu, code, offset);
  setAccessed(cpu, code);
  if (inner) {
    if (v86) {
      for (const segment of [GS, FS, DS, ES]) stack.push(size, BigInt(cpu.segSelector[segment]));
    }
    stack.push(size, BigInt(cpu.segSelector[SS]));
    stack.push(size, cpu.gpr[RSP]);
  }
  stack.push(size, image);
  stack.push(size, BigInt(cpu.segSelector[CS]));
  stack.push(size, cpu.rip);
  if (errorCode !== undefined) stack.push(size, BigInt(errorCode));

  const interruptGate = type === INTERRUPT_GATE || type === INTERRUPT_GATE16;
  clearFlags(cpu, TF | NT | RF | VM | (interruptGate ? IF : 0n));
  if (v86) for (const segment of [GS, FS, DS, ES] as const) setNull(cpu, segment, 0);
  if (stackSegment) setSegment(cpu, SS, stackSegment.selector, stackSegment);
  enterCode(cpu, code, level, rip);
  setStackPointer(cpu, stack.pointer);
}

function deliverLong(
  cpu: Cpu,
  vector: number,
  software: boolean,
  image: bigint,
  errorCode: number | undefined,
): void {
  const at = vector * 16;
  if (at + 15 > cpu.idtrLimit) throw gp(idtCode(vector));
  const gate = BigInt.asUintN(64, cpu.idtrBase + BigInt(at));
  const bits = readLinear(cpu, gate, 8, SYSTEM);
  const low = Number(bits & 0xffff_ffffn);
  const high = Number(bits >> 32n);
  const type = (high >>> 8) & 0x1f;
  if (type !== INTERRUPT_GATE && type !== TRAP_GATE) throw gp(idtCode(vector));
  if (software && ((high >>> 13) & 3) < cpu.cpl) throw gp(idtCode(vector));
  if ((high & 0x8000) === 0) throw np(idtCode(vector));
  const upper = readLinear(cpu, gate + 8n, 8, SYSTEM) & 0xffff_ffffn;
  const offset = (upper << 32n) | BigInt(((high & 0xffff_0000) | (low & 0xffff)) >>> 0);

  const selector = low >>> 16;
  const code = handlerSegment(cpu, selector);
  // SDM vol. 3A 6.14.1: reported as an error of the gate.
  if (!is64BitCode(cpu, code) || isReservedSize(cpu, code)) throw gp(idtCode(vector));
  if (!code.present) throw np(selector & 0xfffc);

  const ist = high & 7;
  const inner = !isConforming(code) && code.dpl < cpu.cpl;
  const level = inner ? code.dpl : cpu.cpl;
  let pointer = cpu.gpr[RSP];
  if (ist !== 0) pointer = interruptStackRsp(cpu, ist);
  else if (inner) pointer = innerRsp(cpu, level);
  const stack = PushStack.flat(cpu, pointer & ~0xfn, level);
  stack.requireRoom(errorCode === undefined ? 5 : 6, 8);
  const rip = targetIn(cpu, code, offset);
  setAccessed(cpu, code);
  stack.push(8, BigInt(cpu.segSelector[SS]));
  stack.push(8, cpu.gpr[RSP]);
  stack.push(8, image);
  stack.push(8, BigInt(cpu.segSelector[CS]));
  stack.push(8, cpu.rip);
  if (errorCode !== undefined) stack.push(8, BigInt(errorCode));

  clearFlags(cpu, TF | NT | RF | VM | (type === INTERRUPT_GATE ? IF : 0n));
  if (inner) setNull(cpu, SS, level);
  enterCode(cpu, code, level, rip);
  cpu.gpr[RSP] = stack.pointer;
}
