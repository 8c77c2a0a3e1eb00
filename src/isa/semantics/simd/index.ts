/** The meaning of every instruction on vectors, by mnemonic: a file a family. */
import type { Semantic } from '../../builder.ts';
import { type AvxMnemonic, type SimdMnemonic, vexForms } from '../../mnemonics.ts';
import { aes } from './aes.ts';
import { arithmetic128 } from './arithmetic.ts';
import { carryless } from './carryless.ts';
import { compare128 } from './compare.ts';
import { convert128 } from './convert.ts';
import { floatArithmetic } from './float-arithmetic.ts';
import { gathers } from './gather.ts';
import { logic128, logic256 } from './logic.ts';
import { move128 } from './move.ts';
import { permute } from './permute.ts';
import { sha } from './sha.ts';
import { shift128, shift256 } from './shift.ts';
import { shuffle128 } from './shuffle.ts';
import { stringCompare } from './string-compare.ts';

const legacy = {
  ...move128,
  ...logic128,
  ...arithmetic128,
  ...compare128,
  ...shift128,
  ...shuffle128,
  ...convert128,
  ...stringCompare,
  ...aes,
  ...carryless,
  ...sha,
  ...floatArithmetic,
};

/** VEX-encoded forms have the meaning of the others: what is different (operands, zeros above) is the form's and the builder's. */
const vex = Object.fromEntries(vexForms.map((name) => [`v${name}`, legacy[name]])) as Record<
  `v${(typeof vexForms)[number]}`,
  Semantic
>;
const avx: Readonly<Record<AvxMnemonic, Semantic>> = {
  ...vex,
  ...logic256,
  ...shift256,
  ...permute,
  ...gathers,
};

export const simd: Readonly<Record<SimdMnemonic, Semantic>> = { ...legacy, ...avx };
