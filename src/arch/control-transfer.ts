/** The system instructions that transfer control, or decide whether control may be taken away. */
import type { SystemInstruction } from './cpu.ts';
import { movFromDebug, movToDebug } from './debug.ts';
import { callFar, jumpFar, returnFar } from './far-transfer.ts';
import { cli, popf, pushf, sti } from './flags-instructions.ts';
import { iret } from './iret.ts';
import { int, int1, int3, into } from './software-interrupts.ts';
import { swapgs } from './swapgs.ts';
import { syscall, sysret } from './syscall.ts';
import { sysenter, sysexit } from './sysenter.ts';

export const controlInstructions = {
  cli,
  sti,
  pushf,
  popf,
  int,
  int3,
  into,
  int1,
  iret,
  callf: callFar,
  jmpf: jumpFar,
  retf: returnFar,
  syscall,
  sysret,
  sysenter,
  sysexit,
  swapgs,
  movdr: movToDebug,
  movfromdr: movFromDebug,
} as const satisfies Readonly<Record<string, SystemInstruction>>;
