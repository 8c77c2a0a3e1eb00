/**
 * The system instructions that change or read the machine's state, by mnemonic; those that transfer control are in
 * control-transfer.ts. SDM vol. 3A 2.8 (summary), 5.9 (privileged instructions).
 */
import { AC } from '../isa/flags.ts';
import type { SystemMnemonic } from '../isa/mnemonics.ts';
import { HALTED } from '../isa/state.ts';
import { clts, lmsw, movFromControl, movToControl, requireCpl0, smsw } from './control-registers.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { cpuid } from './cpuid.ts';
import { PAUSE_TICKS } from './durations.ts';
import {
  fxrstor,
  fxsave,
  xgetbv,
  xrstor,
  xrstors,
  xsave,
  xsavec,
  xsaveopt,
  xsaves,
  xsetbv,
} from './extended-state.ts';
import { ud } from './fault.ts';
import { invalidateCaches, invlpg, invpcid } from './invalidation.ts';
import { input, inputString, output, outputString } from './io.ts';
import { rdmsr, rdpid, rdpmc, rdtsc, rdtscp, wrmsr } from './msr.ts';
import { ldmxcsr, stmxcsr, vldmxcsr, vstmxcsr } from './mxcsr.ts';
import { random } from './random.ts';
import {
  lds,
  les,
  lfs,
  lgs,
  lss,
  movFromSegment,
  movToSegment,
  popSegment,
  pushSegment,
  rdfsbase,
  rdgsbase,
  wrfsbase,
  wrgsbase,
} from './segment-instructions.ts';
import { arpl, lar, lsl, verr, verw } from './selector-checks.ts';
import { lgdt, lidt, lldt, ltr, sgdt, sidt, sldt, str } from './system-tables.ts';
import {
  ldtilecfg,
  productOfBytes,
  sttilecfg,
  tdpbf16ps,
  tileloadd,
  tilerelease,
  tilestored,
  tilezero,
} from './tiles.ts';
import { wait, x87 } from './x87.ts';

/** HLT: the processor sleeps until an interrupt that gets through, NMI, INIT or RESET. */
const hlt: SystemInstruction = (cpu) => {
  requireCpl0(cpu);
  cpu.activity = HALTED;
  cpu.engine.endRun();
};

/** PAUSE: a loop that waits is slowed down. */
const pause: SystemInstruction = (cpu) => cpu.engine.spend(PAUSE_TICKS - 1);

/** CLAC and STAC raise #UD above CPL 0. */
function setAlignmentCheck(cpu: Cpu, set: boolean): void {
  if (cpu.cpl !== 0) throw ud();
  cpu.flagsRest = set ? cpu.flagsRest | AC : cpu.flagsRest & ~AC;
}

/** Instructions that CPUID does not report, and RSM outside system-management mode. */
const notReported: SystemInstruction = () => {
  throw ud();
};

export const systemInstructions = {
  movsreg: movToSegment,
  movfromsreg: movFromSegment,
  pushsreg: pushSegment,
  popsreg: popSegment,
  lds,
  les,
  lfs,
  lgs,
  lss,
  lgdt,
  lidt,
  sgdt,
  sidt,
  lldt,
  ltr,
  sldt,
  str,
  lar,
  lsl,
  verr,
  verw,
  arpl,
  movcr: movToControl,
  movfromcr: movFromControl,
  lmsw,
  smsw,
  clts,
  invlpg,
  invpcid,
  invd: invalidateCaches,
  wbinvd: invalidateCaches,
  rdmsr,
  wrmsr,
  rdtsc,
  rdtscp,
  rdpmc,
  rdpid,
  cpuid,
  xgetbv,
  xsetbv,
  rdrand: random,
  rdseed: random,
  in: input,
  out: output,
  inss: inputString,
  outss: outputString,
  hlt,
  pause,
  clac: (cpu) => setAlignmentCheck(cpu, false),
  stac: (cpu) => setAlignmentCheck(cpu, true),
  rdfsbase,
  rdgsbase,
  wrfsbase,
  wrgsbase,
  x87,
  wait,
  fxsave,
  fxrstor,
  xsave,
  xsaveopt,
  xsavec,
  xsaves,
  xrstor,
  xrstors,
  ldtilecfg,
  sttilecfg,
  tilerelease,
  tilezero,
  tileloadd,
  // A hint on caches is all that tells it from TILELOADD.
  tileloaddt1: tileloadd,
  tilestored,
  tdpbssd: productOfBytes(true, true),
  tdpbsud: productOfBytes(true, false),
  tdpbusd: productOfBytes(false, true),
  tdpbuud: productOfBytes(false, false),
  tdpbf16ps,
  ldmxcsr,
  vldmxcsr,
  vstmxcsr,
  stmxcsr,
  monitor: notReported,
  mwait: notReported,
  rsm: notReported,
  vmcall: notReported,
} satisfies Partial<Record<SystemMnemonic, SystemInstruction>>;
