/** Mathematical constants to 256 bits: `significand` * 2^`exponent`. Each is cut, and not exact. */
export interface WideConstant {
  readonly significand: bigint;
  readonly exponent: number;
}

export const PI: WideConstant = {
  significand: 0xc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b23n,
  exponent: -254,
};
export const LN2: WideConstant = {
  significand: 0xb17217f7d1cf79abc9e3b39803f2f6af40f343267298b62d8a0d175b8baafa2bn,
  exponent: -256,
};
export const LOG2_10: WideConstant = {
  significand: 0xd49a784bcd1b8afe492bf6ff4dafdb4cd96c55fe37b3ad4e91b6ac8082e7859dn,
  exponent: -254,
};
export const LOG2_E: WideConstant = {
  significand: 0xb8aa3b295c17f0bbbe87fed0691d3e88eb577aa8dd695a588b25166cd1a13247n,
  exponent: -255,
};
export const LOG10_2: WideConstant = {
  significand: 0x9a209a84fbcff7988f8959ac0b7c917826ad30c543d1f3498a5e6f26b7cc63cbn,
  exponent: -257,
};
