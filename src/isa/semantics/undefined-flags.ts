/**
 * Flags after an instruction that the manual leaves undefined (SDM vol. 1 appendix A, "-", and the instructions'
 * "Flags Affected") and that these semantics do not give as the processor does.
 */
import type { StatusFlag } from '../builder.ts';
import type { IntegerMnemonic } from '../mnemonics.ts';

export interface UndefinedFlags {
  readonly flags: readonly StatusFlag[];
  readonly reason: string;
}

/**
 * What a comparison with silicon must leave out, by mnemonic. None: measured on an Intel processor of family 6, model
 * 207 (stepping 2), every undefined flag follows a simple rule, and each semantic has it. {@link unspecifiedFlags} lists
 * them, for a comparison with other processors.
 */
export const undefinedFlags: Readonly<Partial<Record<IntegerMnemonic, UndefinedFlags>>> = {};

const shiftReason = 'AF is cleared; OF is what a count of 1 would make it';
const rotateReason =
  'OF is what a count of 1 would make it if the count is in CL or the operand in memory, else kept';
const fieldReason = 'AF and PF are cleared';

/** Flags that the manual leaves undefined, and what the semantics make of them. Other processors may differ here. */
export const unspecifiedFlags: Readonly<Partial<Record<IntegerMnemonic, UndefinedFlags>>> = {
  and: { flags: ['af'], reason: 'cleared' },
  or: { flags: ['af'], reason: 'cleared' },
  xor: { flags: ['af'], reason: 'cleared' },
  test: { flags: ['af'], reason: 'cleared' },
  mul: { flags: ['sf', 'zf', 'af', 'pf'], reason: 'SF and PF by the low half; ZF and AF cleared' },
  imul: { flags: ['sf', 'zf', 'af', 'pf'], reason: 'SF and PF by the low half; ZF and AF cleared' },
  div: { flags: ['cf', 'of', 'sf', 'zf', 'af', 'pf'], reason: 'kept' },
  idiv: { flags: ['cf', 'of', 'sf', 'zf', 'af', 'pf'], reason: 'kept' },
  aaa: { flags: ['of', 'sf', 'zf', 'pf'], reason: 'SF, ZF and PF by AL; OF cleared' },
  aas: { flags: ['of', 'sf', 'zf', 'pf'], reason: 'SF, ZF and PF by AL; OF cleared' },
  aam: { flags: ['of', 'af', 'cf'], reason: 'cleared' },
  aad: { flags: ['of', 'af', 'cf'], reason: 'those of the addition of AL and AH * base' },
  daa: { flags: ['of'], reason: 'cleared' },
  das: { flags: ['of'], reason: 'cleared' },
  shl: { flags: ['of', 'af', 'cf'], reason: `${shiftReason}; CF is cleared by counts above the width` },
  shr: { flags: ['of', 'af', 'cf'], reason: `${shiftReason}; CF is cleared by counts above the width` },
  sar: { flags: ['af'], reason: 'cleared' },
  rol: { flags: ['of'], reason: rotateReason },
  ror: { flags: ['of'], reason: rotateReason },
  rcl: { flags: ['of'], reason: 'what a count of 1 would make it' },
  rcr: { flags: ['of'], reason: 'what a count of 1 would make it' },
  shld: {
    flags: ['cf', 'of', 'sf', 'zf', 'af', 'pf'],
    reason: `${shiftReason}; words by more than 16 shift destination:source:destination`,
  },
  shrd: {
    flags: ['cf', 'of', 'sf', 'zf', 'af', 'pf'],
    reason: `${shiftReason}; words by more than 16 shift destination:source:destination`,
  },
  bt: { flags: ['of', 'sf', 'af', 'pf'], reason: 'kept' },
  bts: { flags: ['of', 'sf', 'af', 'pf'], reason: 'kept' },
  btr: { flags: ['of', 'sf', 'af', 'pf'], reason: 'kept' },
  btc: { flags: ['of', 'sf', 'af', 'pf'], reason: 'kept' },
  bsf: {
    flags: ['cf', 'of', 'sf', 'af', 'pf'],
    reason: 'PF by the index, 0 for a zero source; others cleared',
  },
  bsr: {
    flags: ['cf', 'of', 'sf', 'af', 'pf'],
    reason: 'PF by the index, 0 for a zero source; others cleared',
  },
  tzcnt: { flags: ['of', 'sf', 'af', 'pf'], reason: 'cleared' },
  lzcnt: { flags: ['of', 'sf', 'af', 'pf'], reason: 'cleared' },
  andn: { flags: ['af', 'pf'], reason: fieldReason },
  bextr: { flags: ['sf', 'af', 'pf'], reason: 'cleared' },
  blsi: { flags: ['af', 'pf'], reason: fieldReason },
  blsmsk: { flags: ['af', 'pf'], reason: fieldReason },
  blsr: { flags: ['af', 'pf'], reason: fieldReason },
  bzhi: { flags: ['af', 'pf'], reason: fieldReason },
};
