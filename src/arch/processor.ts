/**
 * Models of processors: what CPUID tells of each. Signatures, features and highest leaves are those of Intel's products (SDM vol. 4
 * table 2-1, vol. 2A "CPUID"), features as far as they are implemented; revisions of microcode are the last ones that Intel published,
 * as systems take workarounds for older ones. The levels x86-64-v1 to v3 are those of the System V ABI, AMD64 supplement, table 3.1.
 *
 * What does not depend on the model: caches, widths of addresses, and that x87 keeps FDP for exceptions only and neither FCS nor FDS.
 */
import {
  type Feature,
  type FeatureSet,
  featureNames,
  featureOf,
  featureTable,
  TILE_LEAF,
  TILE_PRODUCT_LEAF,
  withFeature,
  withoutFeature,
  XSAVE_LEAF,
} from './features.ts';

/** What a processor is. */
export interface Processor {
  /** As {@link processorOf} takes it. */
  readonly name: string;
  readonly brand: string;
  /** CPUID.1:EAX, which is also EDX after reset: family, model and stepping. */
  readonly signature: number;
  /** IA32_BIOS_SIGN_ID[63:32]. */
  readonly microcode: number;
  /** The highest basic leaf. */
  readonly highestLeaf: number;
  readonly features: FeatureSet;
}

interface Model {
  readonly title: string;
  readonly signature: number;
  readonly microcode: number;
  readonly highestLeaf: number;
  readonly features: readonly Feature[];
}

/** CPUID.1:EAX of family 6. */
function family6(model: number, stepping: number): number {
  return ((model >> 4) << 16) | (6 << 8) | ((model & 15) << 4) | stepping;
}

/**
 * Family 6, model 1BH, which no product has: systems know no errata of it, and expect no registers of it that only its products
 * would have.
 */
const OF_NO_PRODUCT = family6(0x1b, 1);

const v1: readonly Feature[] = ['nx'];
const v2: readonly Feature[] = [...v1, 'sse3', 'cx16', 'lahf-lm', 'ssse3', 'sse4.1', 'sse4.2', 'popcnt'];
const v3: readonly Feature[] = [
  ...v2,
  'xsave',
  'avx',
  'avx2',
  'bmi1',
  'bmi2',
  'f16c',
  'fma',
  'lzcnt',
  'movbe',
];

const core2: readonly Feature[] = [...v1, 'sse3', 'ssse3', 'cx16', 'lahf-lm'];
const nehalem: readonly Feature[] = [...v2, 'rdtscp', 'invtsc'];
const westmere: readonly Feature[] = [...nehalem, 'aes', 'pclmulqdq', 'pcid', 'pdpe1gb', 'arat'];
const sandyBridge: readonly Feature[] = [
  ...westmere.filter((one) => one !== 'pdpe1gb'),
  'x2apic',
  'tsc-deadline',
  'xsave',
  'xsaveopt',
  'avx',
];
const ivyBridge: readonly Feature[] = [...sandyBridge, 'f16c', 'rdrand', 'fsgsbase', 'smep'];
const haswell: readonly Feature[] = [
  ...ivyBridge,
  ...v3.filter((one) => !ivyBridge.includes(one)),
  'invpcid',
  'tsc-adjust',
  'pdpe1gb',
];
const broadwell: readonly Feature[] = [...haswell, 'rdseed', 'adx', 'smap', 'prefetchw'];
const skylake: readonly Feature[] = [...broadwell, 'clflushopt', 'xsavec', 'xgetbv1'];

function model(
  title: string,
  signature: number,
  microcode: number,
  highestLeaf: number,
  features: readonly Feature[],
): Model {
  return { title, signature, microcode, highestLeaf, features };
}

export const DEFAULT_MODEL = 'default';

const models: Readonly<Record<string, Model>> = {
  [DEFAULT_MODEL]: model('all that is implemented', OF_NO_PRODUCT, 0, TILE_PRODUCT_LEAF, featureNames),
  'x86-64-v1': model('the bare architecture', OF_NO_PRODUCT, 0, 4, v1),
  'x86-64-v2': model('to SSE4.2 and POPCNT', OF_NO_PRODUCT, 0, 4, v2),
  'x86-64-v3': model('to AVX2, FMA and BMI2', OF_NO_PRODUCT, 0, 0xd, v3),
  core2: model('Core 2 (2006)', family6(0x0f, 11), 0xba, 0xa, core2),
  nehalem: model('Core i7 (2008)', family6(0x1a, 5), 0x1d, 0xb, nehalem),
  westmere: model('Xeon 5600 (2010)', family6(0x2c, 2), 0x1f, 0xb, westmere),
  sandybridge: model('second-generation Core (2011)', family6(0x2a, 7), 0x2f, 0xd, sandyBridge),
  ivybridge: model('third-generation Core (2012)', family6(0x3a, 9), 0x21, 0xd, ivyBridge),
  haswell: model('fourth-generation Core (2013)', family6(0x3c, 3), 0x28, 0xd, haswell),
  broadwell: model('fifth-generation Core (2014)', family6(0x3d, 4), 0x2f, 0x14, broadwell),
  skylake: model('sixth-generation Core (2015)', family6(0x5e, 3), 0xf0, 0x16, skylake),
};

/** Names of the models, and a word on each. */
export const modelTitles: ReadonlyMap<string, string> = new Map(
  Object.entries(models).map(([name, { title }]) => [name, title]),
);

/** The leaves that describe features, beside those that report them. */
const described: Readonly<Partial<Record<Feature, number>>> = {
  xsave: XSAVE_LEAF,
  'amx-tile': TILE_LEAF,
  'amx-int8': TILE_PRODUCT_LEAF,
  'amx-bf16': TILE_PRODUCT_LEAF,
};

/** Features that no processor lacks, by names that users may try. */
const always = 'fpu cmov cx8 fxsr mmx sse sse2 syscall lm pae pat mtrr msr tsc apic pse pge'.split(' ');

/**
 * The processor that a text names: a model, and after commas switches of features: `+sha` or `sha`, `-avx2`, `sha=on`, `avx2=off`.
 * A feature brings what it needs, and takes with it what needs it. Throws RangeError with one line that says what is wrong.
 */
export function processorOf(text: string): Processor {
  const [name, ...switches] = text.split(',');
  const found = Object.hasOwn(models, name.toLowerCase()) ? models[name.toLowerCase()] : undefined;
  if (!found)
    throw new RangeError(`no model "${name}": expected one of ${[...modelTitles.keys()].join(', ')}`);
  const { title, signature, microcode, highestLeaf } = found;
  const own: FeatureSet = new Set(found.features);
  let features = own;
  for (const one of switches) {
    const { feature, on } = switched(one);
    features = on ? withFeature(features, feature) : withoutFeature(features, feature);
  }
  const changes = featureNames.flatMap((feature) => {
    if (features.has(feature) === own.has(feature)) return [];
    return features.has(feature) ? [`+${feature}`] : [`-${feature}`];
  });
  // What is reported in a leaf must be within reach.
  const leaves = [...features].map((one) => described[one] ?? featureTable[one].leaf);
  return {
    name: [name.toLowerCase(), ...changes].join(),
    brand: found.features === featureNames ? 'espfix x86-64 processor' : `espfix processor: ${title}`,
    signature,
    microcode,
    highestLeaf: Math.max(highestLeaf, ...leaves.filter((leaf) => leaf < 0x8000_0000)),
    features,
  };
}

function switched(text: string): { feature: Feature; on: boolean } {
  const parts = /^(?:([+-])([^=]+)|([^=]+?)(?:=(on|off))?)$/.exec(text);
  const [, sign, signed, plain, value] = parts ?? [];
  const name = signed ?? plain ?? text;
  const feature = featureOf(name);
  if (parts && feature) return { feature, on: sign !== '-' && value !== 'off' };
  if (always.includes(name)) throw new RangeError(`feature "${name}": every x86-64 processor has it`);
  throw new RangeError(`no feature "${name}": there is none of this name, or it is not implemented`);
}

/** The processor that a machine has where nobody says which. */
export const defaultProcessor: Processor = processorOf(DEFAULT_MODEL);
