/**
 * RESET, INIT and start-up. SDM vol. 3A 9.1 (processor state after reset, table 9-1), 8.4 (multiprocessor
 * initialization).
 */
import { writeFlags } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, LDTR, RDX, RUNNING, SHADOW_NONE, SS, TR, WAIT_FOR_SIPI } from '../isa/state.ts';
import { CR0_CD, CR0_ET, CR0_NW } from './control-registers.ts';
import type { Cpu } from './cpu.ts';
import { setSegmentRaw } from './segmentation.ts';
import { INITIAL_TILES } from './tile-state.ts';

const APIC_DEFAULT_BASE = 0xfee0_0000n;
const APIC_ENABLE = 0x800n;
const APIC_BOOTSTRAP = 0x100n;
/** WB, WT, UC-, UC, twice. */
const PAT_DEFAULT = 0x0007_0406_0007_0406n;
/** Fast strings on; BTS and PEBS unavailable. */
const MISC_ENABLE_DEFAULT = 0x1801n;
const MXCSR_DEFAULT = 0x1f80;

/** Attributes of data segments (and of CS, which is like them), LDTR and TR after reset. */
const PRESENT_WRITABLE = 0x93;
const PRESENT_LDT = 0x82;
const PRESENT_TSS = 0x8b;

/** What RESET and INIT both set. */
function setCommon(cpu: Cpu, cr0: bigint): void {
  cpu.cr0 = cr0;
  cpu.cr2 = 0n;
  cpu.cr3 = 0n;
  cpu.cr4 = 0n;
  cpu.efer = 0n;
  cpu.cpl = 0;
  cpu.gpr.fill(0n);
  cpu.gpr[RDX] = BigInt(cpu.processor.signature);
  cpu.rip = 0xfff0n;
  writeFlags(cpu, 2n);
  const data = { selector: 0, base: 0n, limit: 0xffff, attributes: PRESENT_WRITABLE, usable: true };
  for (const segment of [ES, SS, DS, FS, GS] as const) setSegmentRaw(cpu, segment, data);
  setSegmentRaw(cpu, CS, { ...data, selector: 0xf000, base: 0xffff_0000n });
  setSegmentRaw(cpu, LDTR, { ...data, attributes: PRESENT_LDT });
  setSegmentRaw(cpu, TR, { ...data, attributes: PRESENT_TSS });
  cpu.gdtrBase = 0n;
  cpu.gdtrLimit = 0xffff;
  cpu.idtrBase = 0n;
  cpu.idtrLimit = 0xffff;
  cpu.dr.fill(0n);
  cpu.dr[6] = 0xffff_0ff0n;
  cpu.dr[7] = 0x400n;
  cpu.pdpte.fill(0n);
  cpu.shadow = SHADOW_NONE;
  cpu.nmiBlocked = 0;
  cpu.nmiPending = 0;
  cpu.machineCheckPending = 0;
  cpu.initPending = 0;
  cpu.sipiPending = 0;
  cpu.pendingDebug = 0;
  cpu.repeating = 0;
  cpu.acknowledged = 0;
  cpu.interrupts.taskPriority = 0;
  cpu.tlb.invalidateContext(-1, true);
}

function startOrWait(cpu: Cpu): void {
  cpu.activity = cpu.apicBase & APIC_BOOTSTRAP ? RUNNING : WAIT_FOR_SIPI;
}

/**
 * Power-up and RESET. Processor 0 is the bootstrap processor and starts at FFFFFFF0H; the others wait for a start-up
 * IPI. The count of instructions is left alone: it is the machine's time.
 */
export function reset(cpu: Cpu): void {
  cpu.zero = 0n;
  cpu.apicBase = APIC_DEFAULT_BASE | APIC_ENABLE | (cpu.index === 0 ? APIC_BOOTSTRAP : 0n);
  cpu.star = 0n;
  cpu.lstar = 0n;
  cpu.cstar = 0n;
  cpu.sfmask = 0n;
  cpu.kernelGsBase = 0n;
  cpu.sysenterCs = 0n;
  cpu.sysenterEsp = 0n;
  cpu.sysenterEip = 0n;
  cpu.tscAux = 0n;
  cpu.tscOffset = 0n;
  cpu.pat = PAT_DEFAULT;
  cpu.miscEnable = MISC_ENABLE_DEFAULT;
  cpu.mtrrDefType = 0n;
  cpu.mtrrFixed.fill(0n);
  cpu.mtrrBase.fill(0n);
  cpu.mtrrMask.fill(0n);
  cpu.mcgStatus = 0n;
  cpu.xcr0 = 1n;
  cpu.x87.fill(0n);
  cpu.fcw = 0x40;
  cpu.fsw = 0;
  cpu.ftw = 0x5555;
  cpu.fop = 0;
  cpu.fip = 0n;
  cpu.fdp = 0n;
  cpu.ymm.fill(0n);
  cpu.mxcsr = MXCSR_DEFAULT;
  cpu.tiles = INITIAL_TILES;
  cpu.sipiVector = 0;
  setCommon(cpu, CR0_CD | CR0_NW | CR0_ET);
  startOrWait(cpu);
}

/**
 * INIT: as RESET, but MSRs, the TSC, x87 and SSE state, and CR0.CD and NW are kept. The bootstrap processor starts
 * again at FFFFFFF0H, another waits for a start-up IPI.
 */
export function initReset(cpu: Cpu): void {
  setCommon(cpu, (cpu.cr0 & (CR0_CD | CR0_NW)) | CR0_ET);
  startOrWait(cpu);
}

/** A start-up IPI reaches a processor that waits for one: it runs in real-address mode from `vector` * 4 KiB. */
export function startUp(cpu: Cpu, vector: number): void {
  setSegmentRaw(cpu, CS, {
    selector: vector << 8,
    base: BigInt(vector) << 12n,
    limit: 0xffff,
    attributes: PRESENT_WRITABLE,
    usable: true,
  });
  cpu.rip = 0n;
  cpu.sipiPending = 0;
  cpu.activity = RUNNING;
}
