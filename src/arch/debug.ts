/**
 * Debug registers, breakpoints, and the traps of single-stepping.
 *
 * SDM vol. 3B 17.2 (DR0 to DR7), 17.3 (debug exceptions), 17.3.1.1 (RF); vol. 2B "MOV to/from debug registers". Branch
 * trapping (BTF) and restricted transactional memory are not reported.
 */
import { RF, TF } from '../isa/flags.ts';
import type { Instruction } from '../isa/instruction.ts';
import { CS, offsetOf, SHADOW_MOV_SS, SHADOW_NONE } from '../isa/state.ts';
import { CR4_DE, requireCpl0 } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { DB, Fault, gp, ud } from './fault.ts';
import { NO_STEP_TRAP } from './interrupts.ts';
import { registerIndex, specialIndex, writeRegister } from './operands.ts';

/** DR6: breakpoint conditions met, general detect, single step, task switch. */
export const DR6_B = 0xf;
export const DR6_BD = 0x2000;
export const DR6_BS = 0x4000;
export const DR6_BT = 0x8000;
const DR6_WRITABLE = BigInt(DR6_B | DR6_BD | DR6_BS | DR6_BT);
/** Bits that read 1 where neither bus-lock detection nor RTM is reported. */
const DR6_ONES = 0xffff_0ff0n;

const DR7_GD = 1n << 13n;
const DR7_WRITABLE = 0xffff_23ffn;
const DR7_ONES = 0x400n;

/** R/W fields of DR7. */
const ON_EXECUTION = 0;
const ON_WRITE = 1;
const ON_IO = 2;

/** Bytes that a breakpoint covers, by its LEN field. */
const LENGTHS = [1n, 2n, 8n, 4n] as const;

/** Dwords of the state. */
const DR7 = offsetOf('dr', 7) / 4;
const FLAGS = offsetOf('flagsRest') / 4;
const TF_BIT = Number(TF);
const TF_OR_RF = Number(TF | RF);

function dr7(cpu: Cpu): number {
  return cpu.u32[DR7];
}
const enabled = (control: number, i: number) => ((control >>> (2 * i)) & 3) !== 0;
const kindOf = (control: number, i: number) => (control >>> (16 + 4 * i)) & 3;
const lengthOf = (control: number, i: number) => LENGTHS[(control >>> (18 + 4 * i)) & 3];

/** Records in DR6 that debug exception conditions `bits` are met: B0 to B3 are replaced, the others are sticky. */
export function setDebugStatus(cpu: Cpu, bits: number): void {
  cpu.dr[6] = (cpu.dr[6] & ~BigInt(DR6_B)) | BigInt(bits & 0xffff) | DR6_ONES;
}

/**
 * The debug register that operand `n` names: DR4 and DR5 are DR6 and DR7. Raises, in this order, #UD for DR8 and above,
 * #GP(0) if CPL is not 0, #UD for DR4 and DR5 with CR4.DE set, and #DB if DR7.GD is set (DR6.BD then is set).
 */
function debugRegister(cpu: Cpu, instruction: Instruction, n: number): number {
  let index = specialIndex(instruction, n);
  if (index > 7) throw ud();
  requireCpl0(cpu);
  if (index === 4 || index === 5) {
    if (cpu.cr4 & CR4_DE) throw ud();
    index += 2;
  }
  if (cpu.dr[7] & DR7_GD) {
    setDebugStatus(cpu, DR6_BD);
    // A fault of this instruction, and not of an instruction breakpoint: its RFLAGS image has RF set.
    cpu.flagsRest |= RF;
    throw new Fault(DB);
  }
  return index;
}

/** MOV DRn, r. Raises #UD, #GP(0), #DB. */
export const movToDebug: SystemInstruction = (cpu, instruction) => {
  const index = debugRegister(cpu, instruction, 0);
  const value = BigInt.asUintN(cpu.mode64 ? 64 : 32, cpu.gpr[registerIndex(instruction, 1)]);
  if (index >= 6 && value >> 32n) throw gp();
  if (index === 6) cpu.dr[6] = (value & DR6_WRITABLE) | DR6_ONES;
  else if (index === 7) cpu.dr[7] = (value & DR7_WRITABLE) | DR7_ONES;
  else cpu.dr[index] = value;
  if (index === 6 || (dr7(cpu) & 0xff) === 0) return;
  // Pages with data breakpoints must not be reached by fast translations.
  cpu.engine.flushTranslations();
  cpu.engine.endRun();
};

/** MOV r, DRn. Raises #UD, #GP(0), #DB. */
export const movFromDebug: SystemInstruction = (cpu, instruction) => {
  const index = debugRegister(cpu, instruction, 1);
  let value = cpu.dr[index];
  if (index === 6) value |= DR6_ONES;
  if (index === 7) value |= DR7_ONES;
  writeRegister(cpu, registerIndex(instruction, 0), cpu.mode64 ? 64 : 32, value);
};

function hasExecutionBreakpoint(control: number): boolean {
  for (let i = 0; i < 4; i++) {
    if (enabled(control, i) && kindOf(control, i) === ON_EXECUTION) return true;
  }
  return false;
}

/** RFLAGS.TF is set, or an instruction breakpoint enabled. */
export function traced(cpu: Cpu): boolean {
  return (cpu.u32[FLAGS] & TF_BIT) !== 0 || hasExecutionBreakpoint(dr7(cpu));
}

/** Instructions must run one at a time: for single-stepping, RF, instruction breakpoints or an interrupt shadow. */
export function singleStepNeeded(cpu: Cpu): boolean {
  if (cpu.shadow !== SHADOW_NONE || (cpu.u32[FLAGS] & TF_OR_RF) !== 0) return true;
  const control = dr7(cpu);
  return (control & 0xff) !== 0 && hasExecutionBreakpoint(control);
}

/**
 * Called before each instruction that is run by itself. True if an instruction breakpoint stands at RIP: DR6 is
 * set, and #DB is to be delivered, as a fault. RF, a MOV SS before the instruction, and iterations that it has made
 * suppress that.
 *
 * RF ends here rather than after the instruction: nothing can tell (faults set it in their image, and PUSHF, SYSCALL and
 * software interrupts show it as 0), and so IRET and task switches may set it for the instruction after them.
 */
export function instructionBreakpoint(cpu: Cpu): boolean {
  if ((cpu.flagsRest & RF) !== 0n) {
    cpu.flagsRest &= ~RF;
    return false;
  }
  const control = dr7(cpu);
  if ((control & 0xff) === 0 || cpu.shadow === SHADOW_MOV_SS || cpu.repeating !== 0) return false;
  const linear = cpu.mode64 ? cpu.rip : (cpu.segBase[CS] + cpu.rip) & 0xffff_ffffn;
  let met = 0;
  let hit = false;
  for (let i = 0; i < 4; i++) {
    if (kindOf(control, i) !== ON_EXECUTION || cpu.dr[i] !== linear) continue;
    met |= 1 << i;
    if (enabled(control, i)) hit = true;
  }
  if (hit) setDebugStatus(cpu, met);
  return hit;
}

function isDataBreakpoint(control: number, i: number): boolean {
  const kind = kindOf(control, i);
  return kind !== ON_EXECUTION && kind !== ON_IO;
}

/** Whether an enabled data breakpoint covers bytes of the 4-KiB page that holds `linear`. */
export function dataBreakpointsOnPage(cpu: Cpu, linear: bigint): boolean {
  const control = dr7(cpu);
  if ((control & 0xff) === 0) return false;
  const page = linear >> 12n;
  for (let i = 0; i < 4; i++) {
    if (enabled(control, i) && isDataBreakpoint(control, i) && cpu.dr[i] >> 12n === page) return true;
  }
  return false;
}

/** The breakpoints among `candidates` whose bytes overlap [address, address + size), if one of them is enabled. */
function overlapping(
  cpu: Cpu,
  control: number,
  address: bigint,
  size: number,
  candidate: (i: number) => boolean,
): number {
  let met = 0;
  let hit = false;
  for (let i = 0; i < 4; i++) {
    if (!candidate(i)) continue;
    const length = lengthOf(control, i);
    const first = cpu.dr[i] & ~(length - 1n);
    if (address >= first + length || first >= address + BigInt(size)) continue;
    met |= 1 << i;
    if (enabled(control, i)) hit = true;
  }
  return hit ? met : 0;
}

/** A data access of `size` bytes was made at `linear`: breakpoints that it meets trap after the instruction. */
export function matchDataBreakpoint(cpu: Cpu, linear: bigint, size: number, write: boolean): void {
  const control = dr7(cpu);
  if ((control & 0xff) === 0) return;
  const met = overlapping(
    cpu,
    control,
    linear,
    size,
    (i) => isDataBreakpoint(control, i) && (write || kindOf(control, i) !== ON_WRITE),
  );
  if (met === 0) return;
  cpu.pendingDebug |= met;
  cpu.engine.endRun();
}

/** An access to `size` bytes of ports from `port` was made; breakpoints on ports need CR4.DE. */
export function matchIoBreakpoint(cpu: Cpu, port: number, size: number): void {
  const control = dr7(cpu);
  if ((control & 0xff) === 0 || (cpu.cr4 & CR4_DE) === 0n) return;
  const met = overlapping(cpu, control, BigInt(port), size, (i) => kindOf(control, i) === ON_IO);
  if (met === 0) return;
  cpu.pendingDebug |= met;
  cpu.engine.endRun();
}

/**
 * An instruction that was run by itself has completed.
 *
 * @param traced TF as it was before the instruction: the single-step trap is now pending, unless the instruction
 *   (a software interrupt, SYSCALL) has called it off
 * @param shadow `shadow` before the instruction: of MOV SS after MOV SS only the first holds off events (measured)
 */
export function afterInstruction(cpu: Cpu, traced: boolean, shadow: number = SHADOW_NONE): void {
  if (shadow === SHADOW_MOV_SS && cpu.shadow === SHADOW_MOV_SS) cpu.shadow = SHADOW_NONE;
  const calledOff = cpu.pendingDebug & NO_STEP_TRAP;
  cpu.pendingDebug &= ~NO_STEP_TRAP;
  if (traced && !calledOff) cpu.pendingDebug |= DR6_BS;
}
