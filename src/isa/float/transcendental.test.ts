/** Results of transcendental functions that silicon's way of computing them decides: by table. */
import { describe, expect, it } from 'vitest';
import { DOWN, Environment, NEAREST, PRECISION, type Rounding, TOWARD_ZERO, UP } from './environment.ts';
import { F80, unpack } from './format.ts';
import { powerMinusOne } from './transcendental.ts';

const f80 = (top: number, significand: bigint) => (BigInt(top) << 64n) | significand;

describe('F2XM1', () => {
  // Measured on Intel silicon (Sapphire Rapids). With ln 2 to more bits, all but the last two rows come out otherwise.
  it.each<[Rounding, bigint, bigint, boolean]>([
    [NEAREST, f80(0x3ff7, 0xffff_ffff_ffff_ffffn), f80(0x3ff7, 0xb1ed_4fd9_99ab_6c24n), false],
    [NEAREST, f80(0xbff7, 0x9e37_79b9_7f4a_7c15n), f80(0xbff6, 0xdaf7_e243_bab9_650fn), true],
    [UP, f80(0xbff2, 0xffff_ffff_ffff_ffffn), f80(0xbff2, 0xb16e_400e_473c_277bn), false],
    [NEAREST, f80(0xbfe6, 0xffff_ffff_ffff_ffffn), f80(0xbfe6, 0xb172_17ba_5253_88dbn), true],
    [DOWN, f80(0xbfe6, 0xffff_ffff_ffff_ffffn), f80(0xbfe6, 0xb172_17ba_5253_88dbn), true],
    [TOWARD_ZERO, f80(0xbfe6, 0xffff_ffff_ffff_ffffn), f80(0xbfe6, 0xb172_17ba_5253_88dan), false],
    [NEAREST, f80(0x3fe6, 0x9e37_79b9_7f4a_7c15n), f80(0x3fe5, 0xdb55_bd8a_3071_52a6n), false],
    [UP, f80(0x3fd7, 0xffff_ffff_ffff_ffffn), f80(0x3fd7, 0xb172_17f7_d24a_78a3n), true],
    [DOWN, f80(0xbfbb, 0xffff_ffff_ffff_ffffn), f80(0xbfbb, 0xb172_17f7_d1cf_79abn), true],
    [DOWN, f80(0xbfba, 0xffff_ffff_ffff_ffffn), f80(0xbfba, 0xb172_17f7_d1cf_79acn), true],
    [DOWN, f80(0x3fba, 0x8000_0000_0000_0000n), f80(0x3fb9, 0xb172_17f7_d1cf_79abn), false],
  ])('rounding %i, %#', (rounding, x, result, roundedUp) => {
    const e = Object.assign(new Environment(), { x87: true, masks: 0x3f, rounding });
    expect(powerMinusOne(e, unpack(F80, x)).toString(16)).toBe(result.toString(16));
    expect(e.flags).toBe(PRECISION);
    expect(e.roundedUp).toBe(roundedUp);
  });
});
