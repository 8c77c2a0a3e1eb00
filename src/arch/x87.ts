/**
 * The x87 FPU: its instructions by opcode. SDM vol. 2D A.5 (escape opcodes), vol. 1 chapter 8.
 *
 * An instruction first raises #NM (CR0.TS, CR0.EM) and, unless it is one of those that do not wait, #MF for an exception
 * that an earlier one left pending. With CR0.NE clear {@link reportError} takes the place of #MF.
 *
 * FIP is that of the last instruction that is none of control; FDP and FOP those of the last that raised an unmasked
 * exception (CPUID.7.0:EBX[6]).
 */
import { CF, PF, readFlags, ZF } from '../isa/flags.ts';
import { integerReal } from '../isa/float/convert.ts';
import { F32, F64, unpack } from '../isa/float/format.ts';
import type { Instruction } from '../isa/instruction.ts';
import { HALTED, RAX } from '../isa/state.ts';
import { CR0_EM, CR0_MP, CR0_NE, CR0_TS } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { Fault, MF, NM, UnimplementedInstruction, ud } from './fault.ts';
import { effectiveAddress } from './operands.ts';
import {
  arithmetic,
  arithmeticMemory,
  compareMemory,
  compareRegister,
  compareToFlags,
  fprem,
  frndint,
  fscale,
  fsqrt,
  ftst,
  fxam,
  fxtract,
  OPERATIONS,
} from './x87-arithmetic.ts';
import { fldenv, fnsave, fnstenv, frstor } from './x87-environment.ts';
import { readMemory, writeMemory } from './x87-memory.ts';
import {
  FSW_ES,
  free,
  initialize,
  pop,
  readSt,
  setC1,
  setControlWord,
  setTop,
  st,
  top,
} from './x87-stack.ts';
import * as transcendental from './x87-transcendental.ts';
import {
  CONSTANTS,
  changeSign,
  conditionalMove,
  exchange,
  loadDecimal,
  loadExtended,
  loadFloat,
  loadInteger,
  loadRegister,
  storeDecimal,
  storeExtended,
  storeFloat,
  storeInteger,
  storeRegister,
  storeRegisterQuietly,
} from './x87-transfer.ts';

/** @param i ST(i), or rm; of no use to forms with memory */
type Escape = (cpu: Cpu, instruction: Instruction, i: number) => void;

const nothing: Escape = () => {};
const none: Escape = () => {
  throw ud();
};

/** FADD to FDIVR with a second operand from memory; FCOM and FCOMP among them. */
function withMemory(bits: 16 | 32 | 64, integer: boolean): Escape[] {
  return OPERATIONS.map((operation, reg) => (cpu, instruction) => {
    const raw = readMemory(cpu, instruction, bits);
    const y = integer ? integerReal(BigInt.asIntN(bits, raw)) : unpack(bits === 32 ? F32 : F64, raw);
    if (operation) arithmeticMemory(cpu, operation, y);
    else compareMemory(cpu, y, reg === 3 ? 1 : 0);
  });
}

/** ST(0) = ST(0) op ST(i): D8. */
const toTop: Escape[] = OPERATIONS.map((operation, reg) => (cpu, _, i) => {
  if (operation) arithmetic(cpu, operation, 0, i, false);
  else compareRegister(cpu, i, false, reg === 3 ? 1 : 0);
});

/** ST(i) = ST(i) op ST(0): DC, DE. The two subtractions have changed places, and the two divisions. */
function toOther(pops: boolean): Escape[] {
  return OPERATIONS.map((_, reg) => {
    const operation = OPERATIONS[reg >= 4 ? reg ^ 1 : reg];
    return (cpu, _, i) => {
      if (operation) arithmetic(cpu, operation, i, 0, pops);
    };
  });
}

const fxch: Escape = (cpu, _, i) => exchange(cpu, i);
const fcom: Escape = (cpu, _, i) => compareRegister(cpu, i, false, 0);
const fcomp: Escape = (cpu, _, i) => compareRegister(cpu, i, false, 1);
const fstp: Escape = (cpu, _, i) => storeRegister(cpu, i, true);

/** FCMOVcc by reg: B, E, BE, U. */
function conditionHolds(cpu: Cpu, reg: number): boolean {
  const flags = readFlags(cpu);
  return (flags & [CF, ZF, CF | ZF, PF][reg]) !== 0n;
}

const fcmov = (reg: number, holds: boolean): Escape => {
  return (cpu, _, i) => conditionalMove(cpu, i, conditionHolds(cpu, reg) === holds);
};

const ffree: Escape = (cpu, _, i) => {
  setC1(cpu, false);
  free(cpu, i);
};

/** By rm. */
function row(...entries: (Escape | null)[]): Escape {
  return (cpu, instruction, i) => (entries[i] ?? none)(cpu, instruction, i);
}

function fldcw(cpu: Cpu, instruction: Instruction): void {
  setControlWord(cpu, Number(readMemory(cpu, instruction, 16)));
}

function fnstcw(cpu: Cpu, instruction: Instruction): void {
  writeMemory(cpu, instruction, 16, BigInt(cpu.fcw));
}

function fnstsw(cpu: Cpu, instruction: Instruction): void {
  writeMemory(cpu, instruction, 16, BigInt(cpu.fsw));
}

function fnstswAx(cpu: Cpu): void {
  cpu.gpr[RAX] = (cpu.gpr[RAX] & ~0xffffn) | BigInt(cpu.fsw);
}

function fnclex(cpu: Cpu): void {
  cpu.fsw &= 0x7f00;
}

function turn(cpu: Cpu, by: number): void {
  setC1(cpu, false);
  setTop(cpu, top(cpu) + by);
}

const integers = withMemory(32, true);
const shortIntegers = withMemory(16, true);
const singles = withMemory(32, false);
const doubles = withMemory(64, false);

/** Memory forms by opcode (D8 first) and reg. */
const memoryForms: readonly (readonly Escape[])[] = [
  singles,
  [
    (cpu, instruction) => loadFloat(cpu, instruction, F32),
    none,
    (cpu, instruction) => storeFloat(cpu, instruction, F32, false),
    (cpu, instruction) => storeFloat(cpu, instruction, F32, true),
    fldenv,
    fldcw,
    fnstenv,
    fnstcw,
  ],
  integers,
  [
    (cpu, instruction) => loadInteger(cpu, instruction, 32),
    (cpu, instruction) => storeInteger(cpu, instruction, 32, true, true),
    (cpu, instruction) => storeInteger(cpu, instruction, 32, false),
    (cpu, instruction) => storeInteger(cpu, instruction, 32, true),
    none,
    loadExtended,
    none,
    storeExtended,
  ],
  doubles,
  [
    (cpu, instruction) => loadFloat(cpu, instruction, F64),
    (cpu, instruction) => storeInteger(cpu, instruction, 64, true, true),
    (cpu, instruction) => storeFloat(cpu, instruction, F64, false),
    (cpu, instruction) => storeFloat(cpu, instruction, F64, true),
    frstor,
    none,
    fnsave,
    fnstsw,
  ],
  shortIntegers,
  [
    (cpu, instruction) => loadInteger(cpu, instruction, 16),
    (cpu, instruction) => storeInteger(cpu, instruction, 16, true, true),
    (cpu, instruction) => storeInteger(cpu, instruction, 16, false),
    (cpu, instruction) => storeInteger(cpu, instruction, 16, true),
    loadDecimal,
    (cpu, instruction) => loadInteger(cpu, instruction, 64),
    storeDecimal,
    (cpu, instruction) => storeInteger(cpu, instruction, 64, true),
  ],
];

const fchs: Escape = (cpu) => changeSign(cpu, false);
const fabs: Escape = (cpu) => changeSign(cpu, true);
const examine: Escape = (cpu) => fxam(cpu, st(cpu, 0), readSt(cpu, 0));

/** Register forms by opcode and reg. DC D0, DC D8, DD C8, DE D0, DF C8, DF D0, DF D8, D9 D8, DF C0 are in no manual. */
const registerForms: readonly (readonly Escape[])[] = [
  toTop,
  [
    (cpu, _, i) => loadRegister(cpu, i),
    fxch,
    row(nothing),
    (cpu, _, i) => storeRegisterQuietly(cpu, i),
    row(fchs, fabs, null, null, ftst, examine),
    row(...CONSTANTS),
    row(
      transcendental.f2xm1,
      transcendental.fyl2x,
      transcendental.fptan,
      transcendental.fpatan,
      fxtract,
      (cpu) => fprem(cpu, true),
      (cpu) => turn(cpu, -1),
      (cpu) => turn(cpu, 1),
    ),
    row(
      (cpu) => fprem(cpu, false),
      transcendental.fyl2xp1,
      fsqrt,
      transcendental.fsincos,
      frndint,
      fscale,
      transcendental.fsin,
      transcendental.fcos,
    ),
  ],
  [
    fcmov(0, true),
    fcmov(1, true),
    fcmov(2, true),
    fcmov(3, true),
    none,
    // FUCOMPP
    row(null, (cpu) => compareRegister(cpu, 1, true, 2)),
    none,
    none,
  ],
  [
    fcmov(0, false),
    fcmov(1, false),
    fcmov(2, false),
    fcmov(3, false),
    // FNENI, FNDISI, FNCLEX, FNINIT, FNSETPM
    row(nothing, nothing, fnclex, initialize, nothing),
    (cpu, _, i) => compareToFlags(cpu, i, true, 0),
    (cpu, _, i) => compareToFlags(cpu, i, false, 0),
    none,
  ],
  Object.assign(toOther(false), { 2: fcom, 3: fcomp }),
  [
    ffree,
    fxch,
    (cpu, _, i) => storeRegister(cpu, i, false),
    fstp,
    (cpu, _, i) => compareRegister(cpu, i, true, 0),
    (cpu, _, i) => compareRegister(cpu, i, true, 1),
    none,
    none,
  ],
  Object.assign(toOther(true), {
    2: fcomp,
    // FCOMPP
    3: row(null, (cpu: Cpu) => compareRegister(cpu, 1, false, 2)),
  }),
  [
    // FFREEP
    (cpu, instruction, i) => {
      ffree(cpu, instruction, i);
      pop(cpu);
    },
    fxch,
    fstp,
    fstp,
    row(fnstswAx),
    (cpu, _, i) => compareToFlags(cpu, i, true, 1),
    (cpu, _, i) => compareToFlags(cpu, i, false, 1),
    none,
  ],
];

/** What of an opcode and reg is an instruction of control, which leaves FIP alone; and which of those do not wait. */
interface Control {
  readonly control: boolean;
  readonly waits: boolean;
}
const ORDINARY: Control = { control: false, waits: true };
const WAITING_CONTROL: Control = { control: true, waits: true };
const SILENT: Control = { control: true, waits: false };

function controlOf(fop: number): Control {
  const opcode = fop >> 8;
  const reg = (fop >> 3) & 7;
  const memory = (fop & 0xff) < 0xc0;
  if (memory) {
    // FLDENV, FLDCW; FNSTENV, FNSTCW.
    if (opcode === 1 && reg >= 4) return reg >= 6 ? SILENT : WAITING_CONTROL;
    // FRSTOR; FNSAVE, FNSTSW.
    if (opcode === 5 && reg >= 4) return reg >= 6 ? SILENT : WAITING_CONTROL;
    return ORDINARY;
  }
  if (opcode === 3 && reg === 4) return SILENT;
  if (opcode === 7 && reg === 4) return SILENT;
  return ORDINARY;
}

/** #MF for a pending exception, unless CR0.NE is clear and the machine says to ignore it. */
export function checkPending(cpu: Cpu): void {
  if ((cpu.fsw & FSW_ES) === 0 || (cpu.numericError.ignored && !native(cpu))) return;
  throw new Fault(MF);
}

/** Errors are reported by #MF. */
function native(cpu: Cpu): boolean {
  return (cpu.cr0 & CR0_NE) !== 0n;
}

/**
 * #MF as it is reported with CR0.NE clear: the processor asserts FERR# when it meets the instruction that waits, as all do since
 * the P6 family, and stops before it until an interrupt comes (SDM vol. 1 8.7.2, D.2.2; vol. 3A 2.5).
 * @returns false where the fault is to be delivered
 */
export function reportError(cpu: Cpu, fault: Fault): boolean {
  if (fault.vector !== MF || native(cpu)) return false;
  // MMX instructions look at ES themselves, and cannot be told to ignore it.
  if (cpu.numericError.ignored) throw new UnimplementedInstruction(cpu.rip, new Uint8Array([0x9b]));
  cpu.numericError.report(true);
  cpu.activity = HALTED;
  return true;
}

/** To be called after what may have cleared exceptions: FERR# goes with the last. */
export function settleError(cpu: Cpu): void {
  if (cpu.numericError.reported && (cpu.fsw & FSW_ES) === 0) cpu.numericError.report(false);
}

/** An instruction of D8 to DF. Raises #NM, #MF, #UD and what its memory access does. */
export const x87: SystemInstruction = (cpu, instruction) => {
  if (cpu.cr0 & (CR0_EM | CR0_TS)) throw new Fault(NM);
  const fop = instruction.fop ?? 0;
  const { control, waits } = controlOf(fop);
  if (waits) checkPending(cpu);
  const opcode = fop >> 8;
  const reg = (fop >> 3) & 7;
  const memory = (fop & 0xff) < 0xc0;
  const form = (memory ? memoryForms : registerForms)[opcode][reg];
  if (control) {
    form(cpu, instruction, fop & 7);
    settleError(cpu);
    return;
  }
  // Before the instruction can change the registers that its address is made of: it changes none but AX.
  const pointer = memory ? effectiveAddress(cpu, instruction, 0).offset : 0n;
  form(cpu, instruction, fop & 7);
  cpu.fip = BigInt.asUintN(cpu.mode64 ? 64 : 32, cpu.rip - BigInt(instruction.length));
  if (cpu.fsw & FSW_ES) {
    cpu.fop = fop;
    if (memory) cpu.fdp = pointer;
  }
};

/** WAIT. */
export const wait: SystemInstruction = (cpu) => {
  if ((cpu.cr0 & CR0_MP) !== 0n && (cpu.cr0 & CR0_TS) !== 0n) throw new Fault(NM);
  checkPending(cpu);
};
