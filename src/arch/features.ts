/**
 * Features that a processor has or lacks: where CPUID reports each, and which others each one needs. SDM vol. 2A "CPUID".
 *
 * Not among them is what every processor of the Intel 64 architecture has: x87, CMOV, CMPXCHG8B, FXSAVE, MMX, SSE, SSE2, SYSCALL,
 * PAE, page attributes and the local APIC.
 */

/** EAX, EBX, ECX, EDX of a leaf. */
const EAX = 0;
const EBX = 1;
const ECX = 2;
const EDX = 3;

interface FeatureInfo {
  readonly leaf: number;
  readonly subleaf: number;
  /** 0 to 3: EAX, EBX, ECX, EDX. */
  readonly register: number;
  readonly bit: number;
  /** Features without which this one cannot be. */
  readonly needs: readonly string[];
}

function at(leaf: number, register: number, bit: number, ...needs: string[]): FeatureInfo {
  return { leaf, subleaf: 0, register, bit, needs };
}

/** The leaves on extended state, on tiles and on their products, which are there where XSAVE and AMX are. */
export const XSAVE_LEAF = 0xd;
export const TILE_LEAF = 0x1d;
export const TILE_PRODUCT_LEAF = 0x1e;

export const featureTable = {
  sse3: at(1, ECX, 0),
  pclmulqdq: at(1, ECX, 1),
  ssse3: at(1, ECX, 9, 'sse3'),
  fma: at(1, ECX, 12, 'avx'),
  cx16: at(1, ECX, 13),
  pcid: at(1, ECX, 17),
  'sse4.1': at(1, ECX, 19, 'ssse3'),
  'sse4.2': at(1, ECX, 20, 'sse4.1'),
  x2apic: at(1, ECX, 21),
  movbe: at(1, ECX, 22),
  popcnt: at(1, ECX, 23),
  'tsc-deadline': at(1, ECX, 24),
  aes: at(1, ECX, 25),
  xsave: at(1, ECX, 26),
  avx: at(1, ECX, 28, 'xsave', 'sse4.2'),
  f16c: at(1, ECX, 29, 'avx'),
  rdrand: at(1, ECX, 30),
  arat: at(6, EAX, 2),
  fsgsbase: at(7, EBX, 0),
  'tsc-adjust': at(7, EBX, 1),
  bmi1: at(7, EBX, 3),
  avx2: at(7, EBX, 5, 'avx'),
  smep: at(7, EBX, 7),
  bmi2: at(7, EBX, 8),
  invpcid: at(7, EBX, 10),
  rdseed: at(7, EBX, 18),
  adx: at(7, EBX, 19),
  smap: at(7, EBX, 20),
  clflushopt: at(7, EBX, 23),
  clwb: at(7, EBX, 24),
  sha: at(7, EBX, 29),
  rdpid: at(7, ECX, 22),
  'amx-tile': at(7, EDX, 24, 'xfd'),
  'amx-bf16': at(7, EDX, 22, 'amx-tile'),
  'amx-int8': at(7, EDX, 25, 'amx-tile'),
  xsaveopt: { ...at(XSAVE_LEAF, EAX, 0, 'xsave'), subleaf: 1 },
  xsavec: { ...at(XSAVE_LEAF, EAX, 1, 'xsave'), subleaf: 1 },
  xgetbv1: { ...at(XSAVE_LEAF, EAX, 2, 'xsave'), subleaf: 1 },
  xsaves: { ...at(XSAVE_LEAF, EAX, 3, 'xsavec'), subleaf: 1 },
  xfd: { ...at(XSAVE_LEAF, EAX, 4, 'xsave'), subleaf: 1 },
  'lahf-lm': at(0x8000_0001, ECX, 0),
  lzcnt: at(0x8000_0001, ECX, 5),
  prefetchw: at(0x8000_0001, ECX, 8),
  nx: at(0x8000_0001, EDX, 20),
  pdpe1gb: at(0x8000_0001, EDX, 26),
  rdtscp: at(0x8000_0001, EDX, 27),
  invtsc: at(0x8000_0007, EDX, 8),
} satisfies Readonly<Record<string, FeatureInfo>>;

/** A feature by the name that Linux or QEMU has for it. */
export type Feature = keyof typeof featureTable;
export type FeatureSet = ReadonlySet<Feature>;

/** All that are implemented. */
export const featureNames = Object.keys(featureTable) as readonly Feature[];

/** Other names of them. */
const aliases: Readonly<Record<string, Feature>> = {
  pni: 'sse3',
  'sse4-1': 'sse4.1',
  'sse4-2': 'sse4.2',
  'tsc-deadline-timer': 'tsc-deadline',
  'sha-ni': 'sha',
  abm: 'lzcnt',
  '3dnowprefetch': 'prefetchw',
};

/** The feature of a name, in which `_` is as good as `-`; undefined if there is none. */
export function featureOf(text: string): Feature | undefined {
  const name = text.toLowerCase().replaceAll('_', '-');
  return featureNames.find((one) => one === name) ?? aliases[name];
}

/** `features` with `added` and all that it needs. */
export function withFeature(features: FeatureSet, added: Feature): FeatureSet {
  let result: FeatureSet = new Set([...features, added]);
  for (const needed of featureTable[added].needs) result = withFeature(result, needed as Feature);
  return result;
}

/** `features` without `removed` and all that need it. */
export function withoutFeature(features: FeatureSet, removed: Feature): FeatureSet {
  let result: FeatureSet = new Set([...features].filter((one) => one !== removed));
  for (const one of features) {
    const needs: readonly string[] = featureTable[one].needs;
    if (needs.includes(removed)) result = withoutFeature(result, one);
  }
  return result;
}

/** The bits of one register of a CPUID leaf that report `features`. */
export function featureBits(features: FeatureSet, leaf: number, subleaf: number, register: number): number {
  let word = 0;
  for (const name of features) {
    const info = featureTable[name];
    if (info.leaf === leaf && info.subleaf === subleaf && info.register === register) word |= 1 << info.bit;
  }
  return word >>> 0;
}
