/** The meaning of every instruction that is written against the builder, by mnemonic. Each is written once, against the builder of isa/builder.ts. */
import type { Semantic } from '../builder.ts';
import type { BuilderMnemonic, IntegerMnemonic } from '../mnemonics.ts';
import { arithmetic } from './arithmetic.ts';
import { bitInstructions } from './bit.ts';
import { control } from './control.ts';
import { decimal } from './decimal.ts';
import { flags } from './flags.ts';
import { logicInstructions } from './logic.ts';
import { miscellaneous } from './miscellaneous.ts';
import { move } from './move.ts';
import { multiply } from './multiply.ts';
import { shift } from './shift.ts';
import { simd } from './simd/index.ts';
import { stack } from './stack.ts';
import { string } from './string.ts';

/** What each mnemonic of `integerMnemonics` does. The rules of {@link Semantic}s are those of `Builder`. */
export const semantics: Readonly<Record<IntegerMnemonic, Semantic>> = {
  ...arithmetic,
  ...logicInstructions,
  ...multiply,
  ...decimal,
  ...move,
  ...flags,
  ...shift,
  ...bitInstructions,
  ...stack,
  ...control,
  ...string,
  ...miscellaneous,
};

/** The same with the instructions on vectors. */
export const meanings: Readonly<Record<BuilderMnemonic, Semantic>> = { ...semantics, ...simd };
