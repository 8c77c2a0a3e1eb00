/**
 * Far JMP, CALL and RET: direct, through call gates, and to tasks.
 *
 * SDM vol. 2A "CALL", "JMP", vol. 2B "RET"; vol. 3A 5.8.1 to 5.8.6 (privilege), 7.3 (tasks), 20.1 (real-address mode).
 *
 * Measured on Intel silicon at CPL 3 where the manual is silent or says otherwise: far CALL pushes CS and RIP before the
 * new RIP is checked, and CS before the stack is known to have room for RIP, and does so as the mode of the new code segment has it; RETF reads CS before RIP.
 */
import type { Instruction } from '../isa/instruction.ts';
import { CS, RSP, SS } from '../isa/state.ts';
import {
  announcePrivilege,
  dropInnerSegments,
  enterCode,
  is64BitCode,
  isCode,
  isConforming,
  isReservedSize,
  returnCodeSegment,
  returnStackSegment,
  targetIn,
} from './code-segment.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import {
  CALL_GATE,
  CALL_GATE16,
  type Descriptor,
  gateOf,
  readDescriptor,
  setAccessed,
  TASK_GATE,
  TSS_AVAILABLE,
  TSS16_AVAILABLE,
} from './descriptors.ts';
import { gp, np, ud } from './fault.ts';
import { innerRsp, innerStack } from './inner-stack.ts';
import { type AccessSize, readSegment } from './linear.ts';
import { advance, effectiveAddress } from './operands.ts';
import { setNull, setReal, setSegment } from './segmentation.ts';
import { PushStack, peek, peekSelector, type SlotSize, setStackPointer, slotSize } from './stack.ts';
import { newTaskSegment, switchTask } from './task-switch.ts';

/** The far pointer operand: an immediate, or offset then selector in memory. */
function farPointer(cpu: Cpu, instruction: Instruction): { selector: number; offset: bigint } {
  const operand = instruction.operands[0];
  if (operand?.kind === 'far') return { selector: operand.selector, offset: BigInt(operand.offset) };
  if (operand?.kind !== 'memory') throw ud();
  const { segment, offset } = effectiveAddress(cpu, instruction, 0);
  const size = slotSize(instruction.operandSize);
  const target = readSegment(cpu, segment, offset, size as AccessSize);
  const selector = readSegment(cpu, segment, advance(instruction, offset, size), 2);
  return { selector: Number(selector), offset: target };
}

/** Far JMP. Raises #GP, #NP, #TS, #SS, #PF. */
export const jumpFar: SystemInstruction = (cpu, instruction) => {
  const { selector, offset } = farPointer(cpu, instruction);
  if (cpu.realAddressing) {
    if (offset > BigInt(cpu.segLimit[CS])) throw gp();
    setReal(cpu, CS, selector);
    cpu.rip = offset;
    return;
  }
  const d = targetDescriptor(cpu, selector);
  if (d.system) {
    throughSystemDescriptor(cpu, d, 'jump');
    return;
  }
  const index = selector & 0xfffc;
  requireDirectTarget(cpu, d, selector);
  if (!d.present) throw np(index);
  const rip = targetIn(cpu, d, offset);
  setAccessed(cpu, d);
  enterCode(cpu, d, cpu.cpl, rip);
};

/** Far CALL. Raises #GP, #NP, #TS, #SS, #PF. */
export const callFar: SystemInstruction = (cpu, instruction) => {
  const { selector, offset } = farPointer(cpu, instruction);
  const size = slotSize(instruction.operandSize);
  if (cpu.realAddressing) {
    const stack = PushStack.current(cpu, false);
    stack.requireRoom(2, size);
    if (offset > BigInt(cpu.segLimit[CS])) throw gp();
    pushReturn(cpu, stack, size);
    setStackPointer(cpu, stack.pointer);
    setReal(cpu, CS, selector);
    cpu.rip = offset;
    return;
  }
  const d = targetDescriptor(cpu, selector);
  if (d.system) {
    throughSystemDescriptor(cpu, d, 'call');
    return;
  }
  requireDirectTarget(cpu, d, selector);
  if (!d.present) throw np(selector & 0xfffc);
  callSameLevel(cpu, d, offset, size);
};

/** The descriptor that a far pointer names. Raises #GP(0) for a null selector, #GP(selector). */
function targetDescriptor(cpu: Cpu, selector: number): Descriptor {
  if ((selector & 0xfffc) === 0) throw gp();
  return readDescriptor(cpu, selector);
}

/** The checks of a code segment reached directly; raises #GP(selector). SDM vol. 3A 5.8.1. */
function requireDirectTarget(cpu: Cpu, d: Descriptor, selector: number): void {
  const index = selector & 0xfffc;
  if (!isCode(d) || isReservedSize(cpu, d)) throw gp(index);
  if (isConforming(d) ? d.dpl > cpu.cpl : (selector & 3) > cpu.cpl || d.dpl !== cpu.cpl) throw gp(index);
}

function pushReturn(cpu: Cpu, stack: PushStack, size: SlotSize): void {
  stack.push(size, BigInt(cpu.segSelector[CS]));
  stack.push(size, cpu.rip);
}

function callSameLevel(cpu: Cpu, d: Descriptor, offset: bigint, size: SlotSize): void {
  const stack = PushStack.current(cpu, is64BitCode(cpu, d));
  setAccessed(cpu, d);
  // CS is written even where there is no room for RIP.
  stack.requireRoom(1, size);
  stack.push(size, BigInt(cpu.segSelector[CS]));
  stack.requireRoom(1, size);
  stack.push(size, cpu.rip);
  const rip = targetIn(cpu, d, offset);
  enterCode(cpu, d, cpu.cpl, rip);
  setStackPointer(cpu, stack.pointer);
}

/** A far pointer to a call gate, a task gate or a TSS. Raises #GP, #NP, #TS, #SS, #PF. */
function throughSystemDescriptor(cpu: Cpu, d: Descriptor, kind: 'jump' | 'call'): void {
  const index = d.selector & 0xfffc;
  const rpl = d.selector & 3;
  const callGate = d.type === CALL_GATE || (d.type === CALL_GATE16 && !cpu.longMode);
  const tss = d.type === TSS_AVAILABLE || d.type === TSS16_AVAILABLE;
  if (!callGate && (cpu.longMode || (!tss && d.type !== TASK_GATE))) throw gp(index);
  if (d.dpl < cpu.cpl || d.dpl < rpl) throw gp(index);
  if (callGate) {
    if (!d.present) throw np(index);
    throughCallGate(cpu, d, kind);
  } else if (tss) {
    switchTask(cpu, newTaskSegment(cpu, d.selector, kind), kind);
  } else {
    if (!d.present) throw np(index);
    switchTask(cpu, newTaskSegment(cpu, gateOf(cpu, d).selector, kind), kind);
  }
}

/** SDM vol. 3A 5.8.4 (checks), 5.8.5 (stack switch). */
function throughCallGate(cpu: Cpu, gateDescriptor: Descriptor, kind: 'jump' | 'call'): void {
  const gate = gateOf(cpu, gateDescriptor);
  const { selector, offset, parameters } = gate;
  const index = selector & 0xfffc;
  if (index === 0) throw gp();
  const d = readDescriptor(cpu, selector);
  if (!isCode(d) || d.dpl > cpu.cpl) throw gp(index);
  if (cpu.longMode && (!is64BitCode(cpu, d) || isReservedSize(cpu, d))) throw gp(index);
  if (kind === 'jump' && !isConforming(d) && d.dpl !== cpu.cpl) throw gp(index);
  if (!d.present) throw np(index);
  const size: SlotSize = cpu.longMode ? 8 : gate.type === CALL_GATE ? 4 : 2;

  if (kind === 'jump') {
    const rip = targetIn(cpu, d, offset);
    setAccessed(cpu, d);
    enterCode(cpu, d, cpu.cpl, rip);
  } else if (isConforming(d) || d.dpl === cpu.cpl) {
    callSameLevel(cpu, d, offset, size);
  } else if (cpu.longMode) {
    callInnerLong(cpu, d, offset);
  } else {
    callInner(cpu, d, offset, size, parameters);
  }
}

/** Through a 16- or 32-bit call gate to a more privileged level: the parameters move to its stack. */
function callInner(cpu: Cpu, d: Descriptor, offset: bigint, size: SlotSize, parameters: number): void {
  const from = cpu.cpl;
  const level = d.dpl;
  const { segment, pointer } = innerStack(cpu, level);
  const stack = PushStack.inSegment(cpu, segment, pointer, level);
  stack.requireRoom(4 + parameters, size);
  const rip = targetIn(cpu, d, offset);
  const copied: bigint[] = [];
  for (let i = 0; i < parameters; i++) copied.push(peek(cpu, i * size, size));
  setAccessed(cpu, d);
  stack.push(size, BigInt(cpu.segSelector[SS]));
  stack.push(size, cpu.gpr[RSP]);
  for (const parameter of copied.reverse()) stack.push(size, parameter);
  pushReturn(cpu, stack, size);

  setSegment(cpu, SS, segment.selector, segment);
  enterCode(cpu, d, level, rip);
  setStackPointer(cpu, stack.pointer);
  announcePrivilege(cpu, from);
}

/** Through a 64-bit call gate to a more privileged level: no parameters, SS becomes null. SDM vol. 3A 5.8.5.1. */
function callInnerLong(cpu: Cpu, d: Descriptor, offset: bigint): void {
  const from = cpu.cpl;
  const level = d.dpl;
  const stack = PushStack.flat(cpu, innerRsp(cpu, level), level);
  stack.requireRoom(4, 8);
  const rip = targetIn(cpu, d, offset);
  setAccessed(cpu, d);
  stack.push(8, BigInt(cpu.segSelector[SS]));
  stack.push(8, cpu.gpr[RSP]);
  pushReturn(cpu, stack, 8);

  setNull(cpu, SS, level);
  enterCode(cpu, d, level, rip);
  setStackPointer(cpu, stack.pointer);
  announcePrivilege(cpu, from);
}

/** Far RET, with or without parameters to release. Raises #GP, #NP, #SS, #PF. */
export const returnFar: SystemInstruction = (cpu, instruction) => {
  const size = slotSize(instruction.operandSize);
  const operand = instruction.operands[0];
  const released = operand?.kind === 'immediate' ? Number(operand.value) : 0;
  const selector = peekSelector(cpu, size);
  const offset = peek(cpu, 0, size);
  const past = 2 * size + released;
  if (cpu.realAddressing) {
    if (offset > BigInt(cpu.segLimit[CS])) throw gp();
    setStackPointer(cpu, cpu.gpr[RSP] + BigInt(past));
    setReal(cpu, CS, selector);
    cpu.rip = offset;
    return;
  }
  const from = cpu.cpl;
  const code = returnCodeSegment(cpu, selector);
  const level = selector & 3;
  if (level === from) {
    const rip = targetIn(cpu, code, offset);
    const pointer = cpu.gpr[RSP] + BigInt(past);
    setAccessed(cpu, code);
    enterCode(cpu, code, level, rip);
    setStackPointer(cpu, pointer);
    return;
  }

  const stackSelector = peekSelector(cpu, past + size);
  const pointer = peek(cpu, past, size) + BigInt(released);
  const stack = returnStackSegment(cpu, stackSelector, level, is64BitCode(cpu, code));
  const rip = targetIn(cpu, code, offset);
  setAccessed(cpu, code);
  if (stack) setAccessed(cpu, stack);
  enterCode(cpu, code, level, rip);
  if (stack) setSegment(cpu, SS, stackSelector, stack);
  else setNull(cpu, SS, stackSelector);
  setStackPointer(cpu, pointer);
  dropInnerSegments(cpu);
  announcePrivilege(cpu, from);
};
