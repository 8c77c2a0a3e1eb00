/**
 * What user mode can see of a processor, and what it cannot but will meet later: taken at a return to CPL 3, compared
 * with what it would be without events.
 */
import type { Cpu } from '../arch/cpu.ts';
import { RF, readFlagsDword } from '../isa/flags.ts';
import { CS, DS, ES, FS, GS, offsetOf, SS } from '../isa/state.ts';

/** IA32_MCG_STATUS.MCIP. */
const MCG_MCIP = 4;
const DR7_0_TO_2 = 0x3f;
const GENERAL = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'];
const SELECTORS = [
  ['es', ES],
  ['cs', CS],
  ['ss', SS],
  ['ds', DS],
  ['fs', FS],
  ['gs', GS],
] as const;

/** A field of {@link UserState}: its name, its first dword and its bits (32 or 64). */
interface Part {
  readonly name: string;
  readonly at: number;
  readonly bits: 32 | 64;
  /** User mode sees it. Otherwise it is the kernel's, and must be as it was all the same. */
  readonly visible: boolean;
}

const parts: Part[] = [];
let dwords = 0;
function part(name: string, bits: 32 | 64, visible = true): number {
  const at = dwords;
  parts.push({ name, at, bits, visible });
  dwords += bits / 32;
  return at;
}

for (let i = 0; i < 16; i++) part(GENERAL[i] ?? `r${i}`, 64);
const RIP = part('rip', 64);
const FLAGS = part('rflags', 32);
const SELECTOR = SELECTORS.map(([name]) => part(name, 32))[0];
const FS_BASE = part('fs.base', 64);
const GS_BASE = part('gs.base', 64);
const CPL = part('cpl', 32);
const KERNEL_GS = part('kernel GS base', 64, false);
const CR3 = part('cr3', 64, false);
const NMI_BLOCKED = part('NMI blocking', 32, false);
const MCIP = part('machine check in progress', 32, false);
/** Breakpoints 0 to 2, local and global: DR7[5:0]. The third is the checker's. */
const BREAKPOINTS = part('breakpoints', 32, false);
const IN_SERVICE = Array.from({ length: 8 }, (_, i) =>
  part(`interrupts in service [${32 * i + 31}:${32 * i}]`, 32, false),
)[0];

/** RF is nobody's to see: PUSHF shows it clear (SDM vol. 2B PUSHF). */
const RF_BIT = Number(RF);

/** A user state: dwords, as `parts` says. */
export type UserState = Uint32Array;

const AT = {
  gpr: offsetOf('gpr') / 4,
  rip: offsetOf('rip') / 4,
  base: offsetOf('segBase') / 4,
  kernelGs: offsetOf('kernelGsBase') / 4,
  cr3: offsetOf('cr3') / 4,
  mcgStatus: offsetOf('mcgStatus') / 4,
  dr7: offsetOf('dr') / 4 + 14,
};

/** Takes the state of a processor. @param inService ISR of its local APIC */
export function userState(
  cpu: Cpu,
  inService: Uint32Array,
  into: UserState = new Uint32Array(dwords),
): UserState {
  const { u32 } = cpu;
  for (let i = 0; i < 32; i++) into[i] = u32[AT.gpr + i];
  into[RIP] = u32[AT.rip];
  into[RIP + 1] = u32[AT.rip + 1];
  into[FLAGS] = readFlagsDword(cpu) & ~RF_BIT;
  for (let i = 0; i < SELECTORS.length; i++) into[SELECTOR + i] = cpu.segSelector[SELECTORS[i][1]];
  into[FS_BASE] = u32[AT.base + 2 * FS];
  into[FS_BASE + 1] = u32[AT.base + 2 * FS + 1];
  into[GS_BASE] = u32[AT.base + 2 * GS];
  into[GS_BASE + 1] = u32[AT.base + 2 * GS + 1];
  into[CPL] = cpu.cpl;
  into[KERNEL_GS] = u32[AT.kernelGs];
  into[KERNEL_GS + 1] = u32[AT.kernelGs + 1];
  into[CR3] = u32[AT.cr3];
  into[CR3 + 1] = u32[AT.cr3 + 1];
  into[NMI_BLOCKED] = cpu.nmiBlocked;
  into[MCIP] = u32[AT.mcgStatus] & MCG_MCIP;
  into[BREAKPOINTS] = u32[AT.dr7] & DR7_0_TO_2;
  into.set(inService, IN_SERVICE);
  return into;
}

export function sameUserState(a: UserState, b: UserState): boolean {
  for (let i = 0; i < dwords; i++) if (a[i] !== b[i]) return false;
  return true;
}

export const ripOf = (state: UserState): bigint => (BigInt(state[RIP + 1]) << 32n) | BigInt(state[RIP]);

export const cr3Of = (state: UserState): bigint => (BigInt(state[CR3 + 1]) << 32n) | BigInt(state[CR3]);

/** Of breakpoints 0 to 2: DR7[5:0]. */
export const enabledBreakpoints = (state: UserState): number => state[BREAKPOINTS];

export function setGsBase(state: UserState, base: bigint): void {
  state[GS_BASE] = Number(base & 0xffff_ffffn);
  state[GS_BASE + 1] = Number(base >> 32n);
}

/** A general-purpose register, by its number. */
export const generalRegister = (state: UserState, index: number): bigint =>
  (BigInt(state[2 * index + 1]) << 32n) | BigInt(state[2 * index]);

/** A part that differs. */
export interface StateDifference {
  readonly name: string;
  readonly bits: number;
  readonly visible: boolean;
  readonly expected: bigint;
  readonly found: bigint;
}

export function differences(expected: UserState, found: UserState): StateDifference[] {
  const read = (state: UserState, { at, bits }: Part) =>
    bits === 32 ? BigInt(state[at]) : (BigInt(state[at + 1]) << 32n) | BigInt(state[at]);
  const different: StateDifference[] = [];
  for (const p of parts) {
    const [a, b] = [read(expected, p), read(found, p)];
    if (a !== b) different.push({ name: p.name, bits: p.bits, visible: p.visible, expected: a, found: b });
  }
  return different;
}

/** All parts with their values. */
export function listState(state: UserState): { name: string; bits: number; value: bigint }[] {
  return parts.map(({ name, at, bits }) => ({
    name,
    bits,
    value: bits === 32 ? BigInt(state[at]) : (BigInt(state[at + 1]) << 32n) | BigInt(state[at]),
  }));
}

/** Names of what user mode sees. */
export const registerParts: readonly string[] = parts
  .filter(({ visible }) => visible)
  .map(({ name }) => name);
