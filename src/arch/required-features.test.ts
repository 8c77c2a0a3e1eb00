/**
 * Which feature each instruction needs, against iced-x86's tables: every opcode of two and three bytes, with all prefixes, with memory and registers.
 */
import * as iced from 'iced-x86';
import { describe, expect, it } from 'vitest';
import { decode } from '../isa/decode/decode.ts';
import { type Feature, featureNames } from './features.ts';
import { lesserProcessor, requiredFeature } from './required-features.ts';

/** iced-x86's names of features, in the order in which they count where an instruction has several. */
const named: readonly (readonly [iced.CpuidFeature, Feature | undefined])[] = [
  [iced.CpuidFeature.AES, 'aes'],
  [iced.CpuidFeature.PCLMULQDQ, 'pclmulqdq'],
  [iced.CpuidFeature.SHA, 'sha'],
  [iced.CpuidFeature.SSE3, 'sse3'],
  [iced.CpuidFeature.SSSE3, 'ssse3'],
  [iced.CpuidFeature.SSE4_1, 'sse4.1'],
  [iced.CpuidFeature.SSE4_2, 'sse4.2'],
  [iced.CpuidFeature.F16C, 'f16c'],
  [iced.CpuidFeature.FMA, 'fma'],
  [iced.CpuidFeature.AVX2, 'avx2'],
  [iced.CpuidFeature.MOVBE, 'movbe'],
  [iced.CpuidFeature.POPCNT, 'popcnt'],
  [iced.CpuidFeature.ADX, 'adx'],
  [iced.CpuidFeature.BMI1, 'bmi1'],
  [iced.CpuidFeature.BMI2, 'bmi2'],
  [iced.CpuidFeature.CMPXCHG16B, 'cx16'],
  [iced.CpuidFeature.RDRAND, 'rdrand'],
  [iced.CpuidFeature.RDSEED, 'rdseed'],
  [iced.CpuidFeature.RDPID, 'rdpid'],
  [iced.CpuidFeature.RDTSCP, 'rdtscp'],
  [iced.CpuidFeature.INVPCID, 'invpcid'],
  [iced.CpuidFeature.SMAP, 'smap'],
  [iced.CpuidFeature.XSAVEOPT, 'xsaveopt'],
  [iced.CpuidFeature.XSAVEC, 'xsavec'],
  [iced.CpuidFeature.XSAVES, 'xsaves'],
  [iced.CpuidFeature.AMX_INT8, 'amx-int8'],
  [iced.CpuidFeature.AMX_BF16, 'amx-bf16'],
  [iced.CpuidFeature.AMX_TILE, 'amx-tile'],
  [iced.CpuidFeature.CLFLUSHOPT, 'clflushopt'],
  [iced.CpuidFeature.CLWB, 'clwb'],
];

/** The form for registers is taken for that of SSE2. */
const told = new Set([iced.Code.Pextrw_r32m16_xmm_imm8, iced.Code.Pextrw_r64m16_xmm_imm8]);

function* encodings(): Generator<number[]> {
  const modrms = Array.from({ length: 8 }, (_, reg) => [(reg << 3) | 6, (reg << 3) | 0xc1]).flat();
  modrms.push(0xca, 0xcb, 0xd0, 0xf9);
  const tail = [0x10, 0, 0, 0, 0, 0, 0, 0];
  for (const prefix of [[], [0x66], [0xf3], [0xf2], [0x48], [0x66, 0x48], [0xf3, 0x48], [0xf2, 0x48]])
    for (const map of [[0x0f], [0x0f, 0x38], [0x0f, 0x3a]])
      for (let opcode = 0; opcode < 256; opcode++)
        for (const modrm of modrms) yield [...prefix, ...map, opcode, modrm, ...tail];
  for (const map of [1, 2, 3])
    for (let opcode = 0; opcode < 256; opcode++)
      for (let bits = 0; bits < 16; bits++)
        for (const vvvv of [0x78, 0x68])
          for (const modrm of [0x06, 0x1e, 0xd8, 0xc2]) {
            const last = ((bits & 8) << 4) | vvvv | (bits & 7);
            yield [0xc4, 0xe0 | map, last, opcode, modrm, ...tail];
          }
}

/** By what an instruction needs, the encodings in which we and iced-x86 differ. */
function differences(): { readonly compared: ReadonlySet<Feature>; readonly wrong: readonly string[] } {
  const compared = new Set<Feature>();
  const wrong = new Set<string>();
  for (const encoding of encodings()) {
    const bytes = Uint8Array.from(encoding);
    const ours = decode(bytes, 0, bytes.length, 64);
    if (!ours || ['invalid', 'unimplemented', 'ud', 'nop', 'tzcnt', 'lzcnt'].includes(ours.mnemonic))
      continue;
    const decoder = new iced.Decoder(64, bytes, iced.DecoderOptions.None);
    const theirs = decoder.decode();
    const features = theirs.cpuidFeatures();
    const expected = named.find(([name]) => features.includes(name))?.[1];
    const found = requiredFeature(ours);
    if (found) compared.add(found);
    const excused = told.has(theirs.code) || ours.mnemonic === 'lahf' || ours.mnemonic === 'sahf';
    if (found !== expected && !excused) wrong.add(`${ours.mnemonic}: ${found}, expected ${expected}`);
    theirs.free();
    decoder.free();
  }
  return { compared, wrong: [...wrong] };
}

describe('features that instructions need', () => {
  it('are those that iced-x86 tells', () => {
    const { compared, wrong } = differences();
    expect(wrong).toEqual([]);
    for (const [, feature] of named) expect(compared).toContain(feature);
  });

  it.each<[string, number[], Feature]>([
    ['fisttp', [0xdd, 0x0e], 'sse3'],
    ['lahf', [0x9f], 'lahf-lm'],
    ['sahf', [0x9e], 'lahf-lm'],
    ['vbroadcastss of a register', [0xc4, 0xe2, 0x79, 0x18, 0xc1], 'avx2'],
  ])('%s', (_, code, feature) => {
    const instruction = decode(Uint8Array.from([...code, ...new Array(15).fill(0x90)]), 0, 16, 64);
    if (!instruction) throw new Error('not decoded');
    expect(requiredFeature(instruction)).toBe(feature);
  });
});

describe('a processor that lacks features', () => {
  const adapted = (code: readonly number[], codeSize: 32 | 64, ...lacking: Feature[]) => {
    const instruction = decode(Uint8Array.from([...code, ...new Array(15).fill(0x90)]), 0, 16, codeSize);
    const lesser = lesserProcessor(new Set(featureNames.filter((one) => !lacking.includes(one))));
    if (!instruction || !lesser) throw new Error('nothing to adapt');
    return lesser.adapt(instruction).mnemonic;
  };
  it.each<[string, number[], 32 | 64, Feature, string]>([
    ['POPCNT', [0xf3, 0x0f, 0xb8, 0xc1], 64, 'popcnt', 'invalid'],
    ['TZCNT', [0xf3, 0x0f, 0xbc, 0xc1], 64, 'bmi1', 'bsf'],
    ['LZCNT', [0xf3, 0x0f, 0xbd, 0xc1], 64, 'lzcnt', 'bsr'],
    ['TZCNT needs no LZCNT', [0xf3, 0x0f, 0xbc, 0xc1], 64, 'lzcnt', 'tzcnt'],
    ['LAHF', [0x9f], 64, 'lahf-lm', 'invalid'],
    ['LAHF outside 64-bit mode', [0x9f], 32, 'lahf-lm', 'lahf'],
    ['FIST is none of SSE3', [0xdb, 0x16], 64, 'sse3', 'x87'],
  ])('%s', (_, code, codeSize, lacking, mnemonic) => {
    expect(adapted(code, codeSize, lacking)).toBe(mnemonic);
  });

  it('is none if it lacks nothing that instructions need', () => {
    expect(lesserProcessor(new Set(featureNames))).toBeUndefined();
    expect(lesserProcessor(new Set(featureNames.filter((one) => one !== 'invtsc')))).toBeUndefined();
  });
});
