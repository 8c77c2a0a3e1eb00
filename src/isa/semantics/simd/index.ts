/** The meaning of every instruction on vectors, by mnemonic: a file a family. */
import type { Semantic } from '../../builder.ts';
import type { SimdMnemonic } from '../../mnemonics.ts';
import { aes } from './aes.ts';
import { arithmetic128 } from './arithmetic.ts';
import { carryless } from './carryless.ts';
import { compare128 } from './compare.ts';
import { convert128 } from './convert.ts';
import { logic128 } from './logic.ts';
import { move128 } from './move.ts';
import { sha } from './sha.ts';
import { shift128 } from './shift.ts';
import { shuffle128 } from './shuffle.ts';
import { stringCompare } from './string-compare.ts';

export const simd: Readonly<Record<SimdMnemonic, Semantic>> = {
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
};
