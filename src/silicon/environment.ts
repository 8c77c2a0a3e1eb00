/**
 * Differences that are not the machine's: what Linux, a hypervisor or this particular processor puts between
 * an instruction and its result. Each has a reason; a case to which one applies is counted, not compared.
 */

import { AC } from '../isa/flags.ts';
import { KIND_INCOMPARABLE, KIND_SYSCALL, KIND_TIMEOUT, type Result } from './batch.ts';
import type { Disassembled } from './disassembly.ts';
import type { Host } from './host-info.ts';
import { CHANGEABLE_CODE } from './layout.ts';
import { USER32_CS } from './linux-abi.ts';

/** What is known of a case in which the two sides differ. */
export interface Situation {
  readonly native: Result;
  readonly machine: Result;
  readonly host: Host;
  /** Instructions that the machine executed or tried, in order. */
  readonly executed: readonly Disassembled[];
}

export interface EnvironmentRule {
  readonly name: string;
  readonly reason: string;
  applies(situation: Situation): boolean;
}

/** CPUID features of the instructions that the machine has. Others are #UD there, and may exist on the host. */
const MACHINE_FEATURES = new Set([
  'INTEL8086', 'INTEL8086_ONLY', 'INTEL186', 'INTEL286', 'INTEL386', 'INTEL486', 'X64',
  'BMI1', 'BMI2', 'ADX', 'MOVBE', 'POPCNT', 'LZCNT', 'CMOV', 'CX8', 'CMPXCHG16B', 'FSGSBASE',
  'PREFETCHW', 'CLFSH', 'CLFLUSHOPT', 'CLWB', 'SMAP', 'CET_IBT', 'MULTIBYTENOP', 'SYSCALL', 'SEP', 'INVPCID',
  'RDPMC', 'MSR', 'TSC', 'CPUID', 'PAUSE', 'SMM', 'RDTSCP', 'RDPID', 'RDRAND', 'RDSEED', 'XSAVE', 'SSE', 'SSE2', 'SSE4_2',
  'FPU', 'FPU287', 'FPU387', 'MMX', 'SSE3', 'SSSE3', 'SSE4_1', 'AES', 'PCLMULQDQ', 'SHA', 'AVX', 'AVX2', 'FMA', 'F16C',
]); // biome-ignore format: a table

/** Extensions that not every x86-64 processor has, as /proc/cpuinfo names them. */
const HOST_FEATURES: Readonly<Record<string, string>> = {
  SSE3: 'pni',
  SSSE3: 'ssse3',
  SSE4_1: 'sse4_1',
  SSE4_2: 'sse4_2',
  AES: 'aes',
  PCLMULQDQ: 'pclmulqdq',
  SHA: 'sha_ni',
  AVX: 'avx',
  AVX2: 'avx2',
  FMA: 'fma',
  F16C: 'f16c',
};

const HYPERVISOR = new Set([
  'Vmcall', 'Vmmcall', 'Vmfunc', 'Vmlaunch', 'Vmresume', 'Vmxoff', 'Vmxon', 'Vmclear', 'Vmptrld', 'Vmptrst', 'Vmread',
  'Vmwrite', 'Invept', 'Invvpid', 'Vmrun', 'Vmload', 'Vmsave', 'Stgi', 'Clgi', 'Skinit', 'Invlpga', 'Getsec',
  'Monitor', 'Mwait', 'Encls', 'Enclu', 'Enclv', 'Pconfig', 'Seamcall', 'Tdcall',
]); // biome-ignore format: a table
const HOST_VALUES = new Set(['Cpuid', 'Rdtsc', 'Rdtscp', 'Rdrand', 'Rdseed', 'Rdpid', 'Xgetbv']);
const UMIP = new Set(['Sgdt', 'Sidt', 'Sldt', 'Smsw', 'Str']);

const DB_VECTOR = 1;
const AC_VECTOR = 17;
const PF_VECTOR = 14;
const VSYSCALL_PAGE = 0xffff_ffff_ff60_0000n;
const inVsyscallPage = (address: bigint) => address >> 12n === VSYSCALL_PAGE >> 12n;
/** Canonical with 57-bit linear addresses, but not with 48. */
const onlyCanonical57 = (address: bigint) => {
  const top48 = BigInt.asIntN(64, address) >> 47n;
  const top57 = BigInt.asIntN(64, address) >> 56n;
  return top48 !== 0n && top48 !== -1n && (top57 === 0n || top57 === -1n);
};

const anyOf = (names: ReadonlySet<string>) => (situation: Situation) =>
  situation.executed.some((instruction) => names.has(instruction.mnemonic));

/** The table. */
export const environmentRules: readonly EnvironmentRule[] = [
  {
    name: 'system call',
    reason: 'SYSCALL, SYSENTER and INT 80h enter the host kernel; the harness turns them into SIGSYS',
    applies: ({ native, machine }) => native.kind === KIND_SYSCALL || machine.kind === KIND_SYSCALL,
  },
  {
    name: 'endless',
    reason:
      'the machine did not end the case within its budget of instructions, so the processor was not asked',
    applies: ({ machine }) => machine.kind === KIND_TIMEOUT,
  },
  {
    name: 'taken for a split lock',
    reason:
      'Linux takes #AC with RFLAGS.AC clear (IRET raises it, by AC in its frame) for a split lock, and retries for ever',
    applies: ({ native, machine }) =>
      native.kind === KIND_TIMEOUT && machine.trapno === AC_VECTOR && (machine.rflags & AC) === 0n,
  },
  {
    name: 'taken for an erratum',
    reason:
      'Linux takes a page fault of 32-bit code above 4 GiB (far CALL to 64-bit code pushes there) for a K8 erratum, and retries for ever',
    applies: ({ native, machine }) =>
      native.kind === KIND_TIMEOUT &&
      machine.trapno === PF_VECTOR &&
      machine.cr2 >> 32n !== 0n &&
      (machine.cs === USER32_CS || (machine.cs & 4) !== 0),
  },
  {
    name: 'bus lock',
    reason:
      'Linux reports a locked access across cache lines on its console, which can take longer than the watchdog waits',
    applies: ({ native, executed }) =>
      native.kind === KIND_TIMEOUT && executed.some(({ text }) => /\b(lock|xchg)\b/.test(text)),
  },
  {
    name: 'not implemented',
    reason: 'instructions that the machine does not have yet stop it',
    applies: ({ machine }) => machine.kind === KIND_INCOMPARABLE,
  },
  {
    name: 'host feature',
    reason: 'an instruction of an extension that the machine does not report, so #UD or a NOP there',
    applies: ({ executed }) =>
      executed.some((instruction) => instruction.features.some((feature) => !MACHINE_FEATURES.has(feature))),
  },
  {
    name: 'missing feature',
    reason: 'an instruction of an extension that the host processor does not have',
    applies: ({ executed, host }) =>
      executed.some(({ features }) =>
        features.some((feature) => HOST_FEATURES[feature] && !host.features.has(HOST_FEATURES[feature])),
      ),
  },
  {
    name: 'hypervisor',
    reason: 'VMX, SVM, SMX, SGX and MONITOR leave a virtual machine before or instead of #UD',
    applies: anyOf(HYPERVISOR),
  },
  {
    name: 'host value',
    reason: 'CPUID, time stamps, processor numbers, random numbers and XCR0 are the host processor’s',
    applies: anyOf(HOST_VALUES),
  },
  {
    name: 'UMIP',
    reason: 'Linux emulates SGDT, SIDT, SLDT, SMSW and STR with made-up values where UMIP forbids them',
    applies: anyOf(UMIP),
  },
  {
    name: 'repeat over itself',
    reason:
      'fast REP MOVS and REP STOS go on in blocks when they overwrite themselves; the machine fetches anew at once',
    applies: ({ executed }) =>
      executed.some(
        ({ offset, text, mnemonic }) =>
          offset >= CHANGEABLE_CODE && /\brepn?e? /.test(text) && /^(Movs|Stos)[bwdq]$/.test(mnemonic),
      ),
  },
  {
    name: 'gather in steps',
    reason:
      'with TF, a gather that faults after its first lanes is stopped by #DB for those; the machine takes the fault',
    applies: ({ native, machine, executed }) =>
      native.trapno === DB_VECTOR &&
      native.trapno !== machine.trapno &&
      /^Vp?gather/.test(executed.at(-1)?.mnemonic ?? ''),
  },
  {
    name: 'vsyscall page',
    reason: 'Linux emulates execution in the vsyscall page and maps it in its own way',
    applies: ({ native }) => inVsyscallPage(native.rip) || inVsyscallPage(native.cr2),
  },
  {
    name: '57-bit addresses',
    reason: 'a host with 5-level paging finds addresses canonical that are not with 48 bits',
    applies: ({ native, host }) =>
      host.features.has('la57') && (onlyCanonical57(native.cr2) || onlyCanonical57(native.rip)),
  },
  {
    name: 'no FSGSBASE',
    reason: 'the host kernel does not enable RDFSBASE and its like',
    applies: ({ host, executed }) =>
      !host.fsGsBase && executed.some((instruction) => instruction.features.includes('FSGSBASE')),
  },
];

/** Differences that the comparison evens out in every case rather than leaving the case out, for `--list`. */
export const evenedOut: readonly { readonly name: string; readonly reason: string }[] = [
  {
    name: 'RF',
    reason: 'the saved RFLAGS of a fault have RF set; the machine is stopped before it pushes them',
  },
  {
    name: 'page faults on kernel addresses',
    reason: 'Linux always reports them as protection violations (error code bit 0), to hide its layout',
  },
  {
    name: 'null selectors with an RPL',
    reason: 'the kernel returns to the handler with IRET, which turns them into 0',
  },
  { name: 'CR2', reason: 'compared for page faults only; Linux keeps the last one otherwise' },
];
