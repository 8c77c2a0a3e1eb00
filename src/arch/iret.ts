/**
 * IRET, IRETD, IRETQ. SDM vol. 2A "IRET/IRETD/IRETQ", vol. 3A 6.7.1 (NMI unblocking), 6.14.3 (64-bit mode), 20.2.6
 * (virtual-8086 mode).
 *
 * Measured on Intel silicon at CPL 3 where the manual is silent: the flags are read first, then CS, then RIP, then, once
 * CS has been checked, SS and RSP, with alignment checked as the flags just read have AC; SS is checked before RIP is;
 * and SS.B = 0 outside 64-bit mode loads SP alone.
 */
import {
  AC,
  DEFINED_FLAGS,
  ID,
  IF,
  IOPL,
  NT,
  RF,
  readFlags,
  USER_FLAGS,
  VIF,
  VIP,
  VM,
  writeFlags,
} from '../isa/flags.ts';
import type { Instruction } from '../isa/instruction.ts';
import { CS, DS, ES, FS, GS, RSP, SS, TR } from '../isa/state.ts';
import {
  announcePrivilege,
  dropInnerSegments,
  enterCode,
  is64BitCode,
  returnCodeSegment,
  returnStackSegment,
  targetIn,
} from './code-segment.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { type Descriptor, setAccessed } from './descriptors.ts';
import { gp, ts } from './fault.ts';
import { readLinear, SYSTEM } from './linear.ts';
import { returnOrdinary } from './ordinary-frames.ts';
import { setNull, setReal, setSegment } from './segmentation.ts';
import { peek, peekSelector, type SlotSize, setStackPointer, slotSize, stackAddress } from './stack.ts';
import { newTaskSegment, switchTask } from './task-switch.ts';

const USER_FLAGS_WIDE = USER_FLAGS | RF | AC | ID;

/** The flags that IRET at `cpl` with slots of `size` bytes loads in protected mode. */
function loadedFlags(cpu: Cpu, size: SlotSize): bigint {
  const iopl = Number((cpu.flagsRest & IOPL) >> 12n);
  let mask = size === 2 ? USER_FLAGS : USER_FLAGS_WIDE;
  if (cpu.cpl <= iopl) mask |= IF;
  if (cpu.cpl === 0) mask |= size === 2 ? IOPL : IOPL | VIF | VIP;
  return mask;
}

/** Loads the flags of `mask` from `image`; others stay. */
function loadFlags(cpu: Cpu, image: bigint, mask: bigint): void {
  writeFlags(cpu, (readFlags(cpu) & ~mask) | (image & mask));
}

/** IRET in every mode. Raises #GP, #NP, #SS, #TS, #PF; NMIs are unblocked even then. */
export const iret: SystemInstruction = (cpu, instruction) => {
  const { interruptReturn } = cpu.hooks;
  if (!interruptReturn) {
    returnFromInterrupt(cpu, instruction);
    return;
  }
  const pointer = stackAddress(cpu);
  returnFromInterrupt(cpu, instruction);
  interruptReturn(cpu, pointer);
};

function returnFromInterrupt(cpu: Cpu, instruction: Instruction): void {
  cpu.nmiBlocked = 0;
  if (instruction.operandSize === 64 && returnOrdinary(cpu)) return;
  const size = slotSize(instruction.operandSize);
  if (!cpu.protectedMode) returnReal(cpu, size);
  else if (cpu.virtual8086) returnVirtual8086(cpu, size);
  else if ((cpu.flagsRest & NT) !== 0n) returnTask(cpu);
  else returnProtected(cpu, size);
}

function returnReal(cpu: Cpu, size: SlotSize): void {
  const flags = peek(cpu, 2 * size, size);
  const selector = peekSelector(cpu, size);
  const rip = peek(cpu, 0, size);
  if (rip > BigInt(cpu.segLimit[CS])) throw gp();
  setStackPointer(cpu, cpu.gpr[RSP] + BigInt(3 * size));
  setReal(cpu, CS, selector);
  cpu.rip = rip;
  const kept = VM | VIF | VIP;
  loadFlags(cpu, flags, size === 2 ? 0xffffn : DEFINED_FLAGS & ~kept);
}

function returnVirtual8086(cpu: Cpu, size: SlotSize): void {
  if ((cpu.flagsRest & IOPL) !== IOPL) throw gp();
  const flags = peek(cpu, 2 * size, size);
  const selector = peekSelector(cpu, size);
  const rip = peek(cpu, 0, size);
  if (rip > BigInt(cpu.segLimit[CS])) throw gp();
  setStackPointer(cpu, cpu.gpr[RSP] + BigInt(3 * size));
  setReal(cpu, CS, selector);
  cpu.rip = rip;
  const kept = VM | VIF | VIP | IOPL;
  loadFlags(cpu, flags, (size === 2 ? 0xffffn : DEFINED_FLAGS) & ~kept);
}

/** From a nested task to the one that its TSS links to. */
function returnTask(cpu: Cpu): void {
  if (cpu.longMode) throw gp();
  const link = Number(readLinear(cpu, cpu.segBase[TR], 2, SYSTEM));
  if ((link & 0xfffc) === 0) throw ts(0);
  switchTask(cpu, newTaskSegment(cpu, link, 'iret'), 'iret');
}

function returnProtected(cpu: Cpu, size: SlotSize): void {
  const flags = peek(cpu, 2 * size, size);
  const selector = peekSelector(cpu, size);
  const offset = peek(cpu, 0, size);
  const from = cpu.cpl;
  if ((flags & VM) !== 0n && from === 0 && size === 4 && !cpu.longMode) {
    enterVirtual8086(cpu, flags, selector, offset);
    return;
  }
  const code = returnCodeSegment(cpu, selector);
  const to64 = is64BitCode(cpu, code);
  const level = selector & 3;
  const popsStack = level > from || cpu.mode64;
  let pointer = cpu.gpr[RSP] + BigInt(3 * size);
  let stackSelector = 0;
  let stack: Descriptor | null = null;
  if (popsStack) {
    const before = cpu.flagsRest;
    cpu.flagsRest |= flags & loadedFlags(cpu, size) & AC;
    try {
      stackSelector = peekSelector(cpu, 4 * size);
      pointer = peek(cpu, 3 * size, size);
    } finally {
      cpu.flagsRest = before;
    }
    stack = returnStackSegment(cpu, stackSelector, level, to64);
  }
  const rip = targetIn(cpu, code, offset);
  setAccessed(cpu, code);
  if (stack) setAccessed(cpu, stack);

  loadFlags(cpu, flags, loadedFlags(cpu, size));
  enterCode(cpu, code, level, rip);
  if (stack) setSegment(cpu, SS, stackSelector, stack);
  else if (popsStack) setNull(cpu, SS, stackSelector);
  setStackPointer(cpu, pointer);
  if (level > from) {
    dropInnerSegments(cpu);
    announcePrivilege(cpu, from);
  }
}

/** To virtual-8086 mode: a 32-bit frame with VM set, at CPL 0 outside IA-32e mode. */
function enterVirtual8086(cpu: Cpu, flags: bigint, selector: number, rip: bigint): void {
  if (rip > 0xffffn) throw gp();
  const pointer = peek(cpu, 12, 4);
  const selectors = [
    [SS, peekSelector(cpu, 16)],
    [ES, peekSelector(cpu, 20)],
    [DS, peekSelector(cpu, 24)],
    [FS, peekSelector(cpu, 28)],
    [GS, peekSelector(cpu, 32)],
  ] as const;
  const from = cpu.cpl;
  writeFlags(cpu, flags);
  cpu.cpl = 3;
  setReal(cpu, CS, selector);
  for (const [segment, value] of selectors) setReal(cpu, segment, value);
  cpu.rip = rip;
  cpu.gpr[RSP] = pointer;
  announcePrivilege(cpu, from);
}
