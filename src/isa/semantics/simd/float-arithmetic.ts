/**
 * SSE arithmetic, compares and conversions of floating-point numbers (SDM vol. 1 11.4.1).
 *
 * Exact results, with their flags and exceptions, are arch's.
 */
import type { Builder, Semantic } from '../../builder.ts';
import { type FloatMnemonic, floatMnemonics } from '../../mnemonics.ts';

const exactly: Semantic = (b: Builder) => b.system();

export const floatArithmetic = Object.fromEntries(
  floatMnemonics.map((mnemonic) => [mnemonic, exactly]),
) as Record<FloatMnemonic, Semantic>;
