/** Which instructions the fuzzer does not compare, and why. */
import { environmentRules, evenedOut } from './environment.ts';

/** Mnemonics of isa/mnemonics.ts that no case can compare, with the reason. */
export const unreachable: Readonly<Record<string, string>> = {
  syscall: 'enters the host kernel; tested beside arch/syscall.ts and by the kernel images',
  sysenter: 'enters the host kernel; tested beside arch/sysenter.ts and by the kernel images',
  sgdt: 'Linux emulates it with made-up values under UMIP, and its values are the host’s otherwise',
  sidt: 'as SGDT',
  sldt: 'as SGDT',
  smsw: 'as SGDT',
  str: 'as SGDT',
  cpuid: 'answers for the host processor',
  rdtsc: 'the host’s time',
  rdtscp: 'the host’s time and processor number',
  rdpid: 'the host’s processor number',
  rdrand: 'random',
  rdseed: 'random',
  xgetbv: 'the host’s XCR0',
  fxsave: 'compared with silicon beside arch/extended-state.ts',
  fxrstor: 'as FXSAVE',
  xsave: 'as FXSAVE',
  xsaveopt: 'as FXSAVE',
  xsavec: 'as FXSAVE',
  xrstor: 'as FXSAVE',
  ldtilecfg: 'compared with silicon beside arch/tiles.ts, as the host must be asked for tiles',
  sttilecfg: 'as LDTILECFG',
  tilerelease: 'as LDTILECFG',
  tilezero: 'as LDTILECFG',
  tileloadd: 'as LDTILECFG',
  tileloaddt1: 'as LDTILECFG',
  tilestored: 'as LDTILECFG',
  tdpbssd: 'as LDTILECFG',
  tdpbsud: 'as LDTILECFG',
  tdpbusd: 'as LDTILECFG',
  tdpbuud: 'as LDTILECFG',
  tdpbf16ps: 'as LDTILECFG',
  monitor: 'a hypervisor may intercept it before #UD',
  mwait: 'as MONITOR',
  vmcall: 'VMX and SVM instructions leave a virtual machine before #UD',
};

/** Instructions of which user mode reaches only the fault: what they do at CPL 0 is compared with no silicon. */
export const faultsOnly: readonly string[] = [
  'lgdt', 'lidt', 'lldt', 'ltr', 'movcr', 'movfromcr', 'movdr', 'movfromdr', 'lmsw', 'clts', 'invlpg', 'invpcid', 'invd',
  'wbinvd', 'rdmsr', 'wrmsr', 'rdpmc', 'xsetbv', 'in', 'out', 'inss', 'outss', 'cli', 'sti', 'hlt', 'clac', 'stac', 'sysret',
  'sysexit', 'swapgs', 'rsm', 'int', 'xsaves', 'xrstors',
]; // biome-ignore format: a table

/** The text of `--list`. */
export function describeUnreachable(): string {
  return [
    'Not compared:',
    ...Object.entries(unreachable).map(([mnemonic, reason]) => `  ${mnemonic.padEnd(10)} ${reason}`),
    `  ${'x87'.padEnd(10)} transcendental instructions and FBLD: beside arch/x87.ts, as their last bits, or digits above 9, may differ`,
    'Compared as far as the fault that user mode gets (CPL 0 is needed for more):',
    `  ${faultsOnly.join(' ')}`,
    'Beyond user mode, so beyond these cases: supervisor paging rules, task switches, virtual-8086 mode, call gates, NMI and',
    'interrupt blocking, debug registers, real-address mode.',
    'Cases left out when they differ:',
    ...environmentRules.map(({ name, reason }) => `  ${name}: ${reason}`),
    'Evened out in every case:',
    ...evenedOut.map(({ name, reason }) => `  ${name}: ${reason}`),
  ].join('\n');
}
