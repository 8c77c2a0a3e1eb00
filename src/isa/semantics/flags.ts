/** Flag control: CLC STC CMC CLD STD LAHF SAHF SALC (SDM vol. 2, vol. 1 7.3.13). CLI, STI, PUSHF and POPF are in arch. */
import type { Builder, Semantic, StatusFlag, Value } from '../builder.ts';
import { RAX } from '../state.ts';
import { bit } from './values.ts';

const clc: Semantic = (b) => b.setFlags({ cf: b.constant(1, 0) });
const stc: Semantic = (b) => b.setFlags({ cf: b.constant(1, 1) });
const cmc: Semantic = (b) => b.setFlags({ cf: b.not(b.getFlag('cf')) });
const cld: Semantic = (b) => b.setDirectionFlag(b.constant(1, 0));
const std: Semantic = (b) => b.setDirectionFlag(b.constant(1, 1));

/** AH := SF:ZF:0:AF:0:PF:1:CF. */
const lahf: Semantic = (b) => {
  const at = (flag: StatusFlag, position: number): Value =>
    b.shl(b.zeroExtend(b.getFlag(flag), 8), b.constant(8, position));
  const low = b.or(b.or(at('cf', 0), b.constant(8, 0x02)), b.or(at('pf', 2), at('af', 4)));
  b.setAh(b.or(low, b.or(at('zf', 6), at('sf', 7))));
};

const sahf: Semantic = (b) => {
  const ah = b.getAh();
  const at = (position: number): Value => bit(b, ah, position);
  b.setFlags({ cf: at(0), pf: at(2), af: at(4), zf: at(6), sf: at(7) });
};

/** Not in the manual, but in every processor outside 64-bit mode: AL := CF ? FFH : 0. */
const salc: Semantic = (b) => {
  b.setRegister(RAX, b.signExtend(b.getFlag('cf'), 8));
};

export const flags = { clc, stc, cmc, cld, std, lahf, sahf, salc } satisfies Record<
  string,
  (b: Builder) => void
>;
