/**
 * What a processor that lacks features makes of instructions: those that need one are #UD, but TZCNT and LZCNT, which are BSF and BSR
 * with a prefix that these ignore. SDM vol. 2 of each; vol. 1 14.7 (AVX2), 12.1 (SSE3).
 *
 * What CR4 or XCR0 must permit is not told here, as the bits that permit it are reserved there: FSGSBASE, XSAVE, AVX. PREFETCHW was a
 * NOP before it was reported. What is not implemented is #UD, too: no processor that lacks something here has it. The form of PEXTRW that SSE4.1 has for registers is taken for that of SSE2.
 */
import type { Instruction } from '../isa/instruction.ts';
import type { Feature, FeatureSet } from './features.ts';

/** Instructions that are not VEX-encoded, or not on vectors, by the feature that they need. */
const legacy: Readonly<Partial<Record<Feature, string>>> = {
  sse3: 'addsubps addsubpd haddps haddpd hsubps hsubpd lddqu movddup movshdup movsldup',
  ssse3:
    'pshufb phaddw phaddd phaddsw phsubw phsubd phsubsw pmaddubsw psignb psignw psignd pmulhrsw pabsb pabsw pabsd palignr',
  'sse4.1':
    'pblendvb blendvps blendvpd blendps blendpd pblendw ptest pmuldq pcmpeqq movntdqa packusdw pmulld phminposuw mpsadbw ' +
    'pminsb pminsd pminuw pminud pmaxsb pmaxsd pmaxuw pmaxud pmovsxbw pmovsxbd pmovsxbq pmovsxwd pmovsxwq pmovsxdq ' +
    'pmovzxbw pmovzxbd pmovzxbq pmovzxwd pmovzxwq pmovzxdq dpps dppd roundps roundpd roundss roundsd ' +
    'insertps extractps pinsrb pinsrd pinsrq pextrb pextrd pextrq',
  'sse4.2': 'pcmpgtq pcmpestrm pcmpestri pcmpistrm pcmpistri crc32',
  aes: 'aesenc aesenclast aesdec aesdeclast aesimc aeskeygenassist vaesenc vaesenclast vaesdec vaesdeclast vaesimc vaeskeygenassist',
  pclmulqdq: 'pclmulqdq vpclmulqdq',
  sha: 'sha1rnds4 sha1nexte sha1msg1 sha1msg2 sha256rnds2 sha256msg1 sha256msg2',
  f16c: 'vcvtph2ps vcvtps2ph',
  movbe: 'movbe',
  popcnt: 'popcnt',
  adx: 'adcx adox',
  bmi1: 'andn bextr blsi blsmsk blsr',
  bmi2: 'bzhi mulx pdep pext rorx sarx shlx shrx',
  cx16: 'cmpxchg16b',
  rdrand: 'rdrand',
  rdseed: 'rdseed',
  rdpid: 'rdpid',
  rdtscp: 'rdtscp',
  invpcid: 'invpcid',
  smap: 'clac stac',
  xsaveopt: 'xsaveopt',
  xsavec: 'xsavec',
  xsaves: 'xsaves xrstors',
  'amx-tile': 'ldtilecfg sttilecfg tilerelease tilezero tileloadd tileloaddt1 tilestored',
  'amx-bf16': 'tdpbf16ps',
  'amx-int8': 'tdpbssd tdpbsud tdpbusd tdpbuud',
  clflushopt: 'clflushopt',
  clwb: 'clwb',
};

const byMnemonic: ReadonlyMap<string, Feature> = new Map(
  Object.entries(legacy).flatMap(([feature, names]) =>
    names.split(' ').map((name): [string, Feature] => [name, feature as Feature]),
  ),
);

/** What each feature that is about instructions has them for; TZCNT and LZCNT beside. */
const instructionFeatures: readonly Feature[] = [
  ...(Object.keys(legacy) as Feature[]),
  'fma',
  'avx2',
  'lahf-lm',
  'lzcnt',
];

/** FMA. */
const FUSED = /^vfn?m(add|sub)/;
/** AVX2 whatever the width. */
const ONLY_AVX2 =
  /^v(broadcasti128|pbroadcast|inserti128|extracti128|perm(d|ps|q|pd|2i128)$|pblendd|pmaskmov|psllv|psrlv|psrav|p?gather)/;
/** Arithmetic of integers, of which AVX has 128 bits; vectors of 256 bits are AVX2. */
const INTEGER = /^v(p(?!test|ermil|erm2f128)|mpsadbw|movntdqa)/;

function needsAvx2({ mnemonic, operands }: Instruction): boolean {
  if (ONLY_AVX2.test(mnemonic)) return true;
  if (mnemonic === 'vbroadcastss' || mnemonic === 'vbroadcastsd') return operands[1].kind !== 'memory';
  return INTEGER.test(mnemonic) && operands.some(({ kind }) => kind === 'ymm');
}

/** FISTTP: DB /1, DD /1 and DF /1 with memory. */
function isFisttp({ mnemonic, fop = 0 }: Instruction): boolean {
  return mnemonic === 'x87' && (fop & 0x138) === 0x108 && (fop & 0xc0) !== 0xc0;
}

/** The feature without which there is no such instruction, if there is one. */
export function requiredFeature(instruction: Instruction): Feature | undefined {
  const { mnemonic, codeSize } = instruction;
  const known = byMnemonic.get(mnemonic);
  if (known) return known;
  if (FUSED.test(mnemonic)) return 'fma';
  if (mnemonic.startsWith('v') && needsAvx2(instruction)) return 'avx2';
  if (isFisttp(instruction)) return 'sse3';
  if ((mnemonic === 'lahf' || mnemonic === 'sahf') && codeSize === 64) return 'lahf-lm';
  return undefined;
}

/** A processor that lacks instructions: what it makes of one, and a text that is equal for those that lack the same. */
export interface LesserProcessor {
  readonly key: string;
  adapt(instruction: Instruction): Instruction;
}

/** What a processor of `features` makes of instructions; undefined where it has them all. */
export function lesserProcessor(features: FeatureSet): LesserProcessor | undefined {
  const lacking = instructionFeatures.filter((one) => !features.has(one));
  if (lacking.length === 0) return undefined;
  return {
    key: lacking.join(),
    adapt(instruction) {
      const { mnemonic } = instruction;
      if (mnemonic === 'tzcnt' && !features.has('bmi1')) return { ...instruction, mnemonic: 'bsf' };
      if (mnemonic === 'lzcnt' && !features.has('lzcnt')) return { ...instruction, mnemonic: 'bsr' };
      const needed = requiredFeature(instruction);
      const present = needed === undefined ? mnemonic !== 'unimplemented' : features.has(needed);
      if (present) return instruction;
      return { ...instruction, mnemonic: 'invalid', operands: [] };
    },
  };
}
