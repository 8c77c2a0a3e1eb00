/**
 * What transfers of control between segments and privilege levels do to shadows: IRET, far JMP, CALL and RET, SYSCALL and
 * its like. What INT n does is a delivery: see delivery.ts.
 *
 * SDM vol. 2A "IRET", "CALL", "JMP"; vol. 2B "RET", "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT".
 */
import { ATTRIBUTE_DB } from '../../arch/descriptors.ts';
import { sub } from '../../engine/taint/propagate.ts';
import { extract, insert, type Shadow, union, within } from '../../engine/taint/shadow.ts';
import { type TaintedBits, taintedBits } from '../../engine/taint/taint-builder.ts';
import {
  AC,
  DEFINED_FLAGS,
  DF,
  ID,
  IF,
  IOPL,
  NT,
  RF,
  STATUS_FLAGS,
  TF,
  VIF,
  VIP,
  VM,
} from '../../isa/flags.ts';
import type { OperandWidth } from '../../isa/instruction.ts';
import type { SystemMnemonic } from '../../isa/mnemonics.ts';
import { CS, DS, ES, FS, GS, RCX, RDX, RSP, type SegmentNumber, SS } from '../../isa/state.ts';
import type { SystemRule, SystemStep } from './system-step.ts';
import { switchedTask, switchTask } from './task-switch.ts';

type MaybeShadow = Shadow | null;

const R11 = 11;
const DATA_SEGMENTS = [ES, DS, FS, GS] as const;

function setSelector(x: SystemStep, segment: SegmentNumber, shadow: MaybeShadow): void {
  x.set({ kind: 'selector', segment }, extract(shadow, 0, 16));
}

/** What stands `slot` slots of `width` bits above the top of the stack. */
function peekSlot(x: SystemStep, slot: number, width: OperandWidth, read: OperandWidth = width): TaintedBits {
  const { b, cpu } = x;
  const top = b.getRegister(RSP, cpu.stackSize);
  const above = BigInt.asUintN(cpu.stackSize, BigInt((slot * width) / 8));
  return taintedBits(b.load('ss', b.add(top, b.constant(cpu.stackSize, above)), read));
}

/** The stack pointer `bytes` further up, as a whole. */
function popped(x: SystemStep, bytes: number): MaybeShadow {
  const { b } = x;
  return taintedBits(b.add(b.getRegister(RSP, 64), b.constant(64, bytes))).shadow;
}

/**
 * Leaves RSP with the part of `pointer` that mode and stack segment, as the instruction has left them, load: where SS.B is
 * 0 outside 64-bit mode, bits 31:16 stay those of the stack that is left.
 */
function setStackPointer(x: SystemStep, pointer: MaybeShadow): void {
  const { cpu } = x;
  const old = x.read({ kind: 'register', index: RSP });
  let shadow = pointer;
  if (!cpu.mode64) {
    const low = extract(pointer, 0, 32);
    shadow =
      cpu.segAttributes[SS] & ATTRIBUTE_DB ? low : insert(extract(old, 0, 32), extract(low, 0, 16), 0, 16);
  }
  x.set({ kind: 'register', index: RSP }, shadow);
}

/** Selectors that a return to an outer level has made null are no secret's. */
function dropped(x: SystemStep): void {
  for (const segment of DATA_SEGMENTS)
    if (x.cpu.segSelector[segment] === 0 && x.before.selectors[segment] !== 0) setSelector(x, segment, null);
}

function setRip(x: SystemStep, shadow: MaybeShadow): void {
  x.set({ kind: 'rip' }, extract(shadow, 0, x.cpu.mode64 ? 64 : 32));
}

/** The flags that IRET with slots of `width` bits loads. */
function loadedFlags(x: SystemStep, width: OperandWidth): bigint {
  const { before } = x;
  const kept = VM | VIF | VIP;
  if (before.virtual8086) return (width === 16 ? 0xffffn : DEFINED_FLAGS) & ~kept & ~IOPL;
  if (before.realAddressing) return width === 16 ? 0xffffn : DEFINED_FLAGS & ~kept;
  let mask = STATUS_FLAGS | TF | DF | NT;
  if (width !== 16) mask |= RF | AC | ID;
  if (before.cpl <= Number((BigInt(before.flags) & IOPL) >> 12n)) mask |= IF;
  if (before.cpl === 0) mask |= width === 16 ? IOPL : IOPL | VIF | VIP;
  return mask;
}

const iret: SystemRule = (x) => {
  const { before, cpu, instruction } = x;
  const protectedMode = !before.realAddressing;
  if (protectedMode && (BigInt(before.flags) & NT) !== 0n) {
    const next = taintedBits(x.b.nextRip()).shadow;
    x.after(() => switchTask(x, next, false));
    return;
  }
  const width = instruction.operandSize;
  const rip = peekSlot(x, 0, width);
  const selector = peekSlot(x, 1, width, 16);
  const flags = peekSlot(x, 2, width);
  if (protectedMode && before.cpl === 0 && width === 32 && !before.longMode && (flags.bits & VM) !== 0n) {
    enterVirtual8086(x, rip, selector, flags);
    return;
  }
  const pops = protectedMode && (Number(selector.bits & 3n) > before.cpl || before.mode64);
  const pointer = pops ? peekSlot(x, 3, width).shadow : popped(x, (3 * width) / 8);
  const stackSelector = pops ? peekSlot(x, 4, width, 16).shadow : x.shadows.selectors[SS];
  const mask = loadedFlags(x, width);
  const loaded = flags.shadow && within(flags.shadow, mask);
  x.set({ kind: 'flags' }, union(within(x.read({ kind: 'flags' }), ~mask), loaded));
  setSelector(x, CS, selector.shadow);
  if (pops) setSelector(x, SS, stackSelector);
  x.after(() => {
    setRip(x, rip.shadow);
    setStackPointer(x, pointer);
    if (cpu.cpl > before.cpl) dropped(x);
  });
};

/** IRETD with VM set in the frame: all data segments come from it, too. */
function enterVirtual8086(x: SystemStep, rip: TaintedBits, selector: TaintedBits, flags: TaintedBits): void {
  const pointer = peekSlot(x, 3, 32);
  setSelector(x, CS, selector.shadow);
  for (const [slot, segment] of [SS, ES, DS, FS, GS].entries())
    setSelector(x, segment as SegmentNumber, peekSlot(x, 4 + slot, 32, 16).shadow);
  x.set({ kind: 'flags' }, flags.shadow);
  x.set({ kind: 'rip' }, extract(rip.shadow, 0, 16));
  x.set({ kind: 'register', index: RSP }, pointer.shadow);
}

const retf: SystemRule = (x) => {
  const { before, cpu, instruction } = x;
  const width = instruction.operandSize;
  const [operand] = instruction.operands;
  const released = operand?.kind === 'immediate' ? Number(operand.value) : 0;
  const rip = peekSlot(x, 0, width);
  const selector = peekSlot(x, 1, width, 16);
  setSelector(x, CS, selector.shadow);
  const past = (2 * width) / 8 + released;
  let pointer = popped(x, past);
  if (!before.realAddressing && Number(selector.bits & 3n) > before.cpl) {
    const { b } = x;
    const at = (bytes: number, read: OperandWidth) => {
      const top = b.getRegister(RSP, cpu.stackSize);
      return b.load('ss', b.add(top, b.constant(cpu.stackSize, bytes)), read);
    };
    pointer = taintedBits(b.add(b.zeroExtend(at(past, width), 64), b.constant(64, released))).shadow;
    setSelector(x, SS, taintedBits(at(past + width / 8, 16)).shadow);
  }
  x.after(() => {
    setRip(x, rip.shadow);
    setStackPointer(x, pointer);
    if (cpu.cpl > before.cpl) dropped(x);
  });
};

/** The far pointer operand: no secret where it is an immediate. */
function farPointer(x: SystemStep): { offset: MaybeShadow; selector: MaybeShadow } {
  const { b, instruction } = x;
  if (instruction.operands[0]?.kind !== 'memory') return { offset: null, selector: null };
  const address = b.effectiveAddress(0);
  const width = instruction.operandSize;
  const offset = taintedBits(b.load('operand', address, width)).shadow;
  const after = b.add(address, b.constant(address.width, width / 8));
  return { offset, selector: taintedBits(b.load('operand', after, 16)).shadow };
}

const jmpf: SystemRule = (x) => {
  const { offset, selector } = farPointer(x);
  const next = taintedBits(x.b.nextRip()).shadow;
  setSelector(x, CS, selector);
  x.after(() => {
    if (switchedTask(x)) {
      switchTask(x, next, false);
      return;
    }
    setRip(x, offset);
    if (!x.cpu.mode64) x.set({ kind: 'register', index: RSP }, extract(x.shadows.gpr[RSP], 0, 32));
  });
};

/** Slots are as large as the stack pointer's way says. */
const callf: SystemRule = (x) => {
  const { before, cpu, b } = x;
  const { offset, selector } = farPointer(x);
  const returnAddress = taintedBits(b.nextRip()).shadow;
  const code = x.read({ kind: 'selector', segment: CS });
  const stack = x.read({ kind: 'selector', segment: SS });
  const old = taintedBits(b.getRegister(RSP, 64));
  setSelector(x, CS, selector);
  x.after(() => {
    if (switchedTask(x)) {
      switchTask(x, returnAddress, false);
      return;
    }
    setRip(x, offset);
    const inner = cpu.cpl !== before.cpl;
    if (inner && !before.longMode) {
      x.giveUp('call gate to an inner level');
      return;
    }
    const base = cpu.mode64 ? 0n : cpu.segBase[SS];
    const width = cpu.mode64 ? 64 : cpu.segAttributes[SS] & ATTRIBUTE_DB ? 32 : 16;
    const top = BigInt.asUintN(width, cpu.gpr[RSP]);
    const size = inner ? 8 : Number(BigInt.asUintN(width, old.bits - top)) / 2;
    const put = (slot: number, shadow: MaybeShadow) => {
      const linear = BigInt.asUintN(cpu.longMode ? 64 : 32, base + top + BigInt(slot * size));
      x.set({ kind: 'memory', linear, bytes: size }, extract(shadow, 0, 8 * size));
    };
    put(0, returnAddress);
    put(1, code);
    if (inner) {
      put(2, old.shadow);
      put(3, stack);
      setSelector(x, SS, null);
    }
    const pointer = inner
      ? sub(64, cpu.gpr[RSP] + 32n, x.born('stack-pointer', innerStackName(x), 64), 32n, null)
      : sub(64, old.bits, old.shadow, BigInt(2 * size), null);
    setStackPointer(x, pointer);
  });
};

/** What the stack pointer that was taken from the TSS is called. */
export function innerStackName({ cpu, before }: SystemStep, ist = 0): string {
  const entry = ist === 0 ? `${before.longMode ? 'RSP' : 'ESP'}${cpu.cpl}` : `IST${ist}`;
  return stackPointerName(entry, cpu.index);
}

/** The same, of a field of the TSS. */
export function stackPointerName(field: string, cpu: number): string {
  return `kernel stack pointer (TSS.${field} of CPU ${cpu})`;
}

const syscall: SystemRule = (x) => {
  const { b, cpu } = x;
  b.setRegister(RCX, b.nextRip());
  const flags = within(x.read({ kind: 'flags' }), ~RF);
  x.set({ kind: 'register', index: R11 }, flags);
  x.set({ kind: 'flags' }, flags && within(flags, ~cpu.sfmask));
  x.set({ kind: 'rip' }, null);
  setSelector(x, CS, null);
  setSelector(x, SS, null);
};

const sysret: SystemRule = (x) => {
  const { b, instruction } = x;
  const wide = instruction.operandSize === 64;
  x.set({ kind: 'rip' }, taintedBits(b.getRegister(RCX, wide ? 64 : 32)).shadow);
  const flags = taintedBits(b.getRegister(R11, 64)).shadow;
  x.set({ kind: 'flags' }, flags && within(flags, DEFINED_FLAGS & ~(RF | VM)));
  setSelector(x, CS, null);
  setSelector(x, SS, null);
  if (!wide) b.setRegister(RSP, b.getRegister(RSP, 32));
};

const sysenter: SystemRule = (x) => {
  const what = `kernel stack pointer (IA32_SYSENTER_ESP of CPU ${x.cpu.index})`;
  x.set({ kind: 'register', index: RSP }, x.born('stack-pointer', what, x.cpu.longMode ? 64 : 32));
  x.set({ kind: 'flags' }, within(x.read({ kind: 'flags' }), ~(VM | IF | RF)));
  x.set({ kind: 'rip' }, null);
  setSelector(x, CS, null);
  setSelector(x, SS, null);
};

const sysexit: SystemRule = (x) => {
  const { b, instruction } = x;
  const width = instruction.operandSize === 64 ? 64 : 32;
  b.setRegister(RSP, b.getRegister(RCX, width));
  x.set({ kind: 'rip' }, taintedBits(b.getRegister(RDX, width)).shadow);
  setSelector(x, CS, null);
  setSelector(x, SS, null);
};

/** A software interrupt whose delivery did not come about (INTO with OF clear) does nothing. */
const noInterrupt: SystemRule = () => {};

export const transferRules = {
  iret,
  retf,
  jmpf,
  callf,
  int: noInterrupt,
  int3: noInterrupt,
  into: noInterrupt,
  int1: noInterrupt,
  syscall,
  sysret,
  sysenter,
  sysexit,
} as const satisfies Partial<Record<SystemMnemonic, SystemRule>>;
