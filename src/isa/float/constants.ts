/** Mathematical constants, cut to 256 bits. */

/** `significand` * 2^`exponent`, of 256 bits: a little less than the number that it stands for. */
export interface WideConstant {
  readonly significand: bigint;
  readonly exponent: number;
}

const wide = (significand: bigint, exponent: number): WideConstant => ({ significand, exponent });

export const PI = wide(0xc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b23n, -254);
export const LN2 = wide(0xb17217f7d1cf79abc9e3b39803f2f6af40f343267298b62d8a0d175b8baafa2bn, -256);
export const LOG2_10 = wide(0xd49a784bcd1b8afe492bf6ff4dafdb4cd96c55fe37b3ad4e91b6ac8082e7859dn, -254);
export const LOG2_E = wide(0xb8aa3b295c17f0bbbe87fed0691d3e88eb577aa8dd695a588b25166cd1a13247n, -255);
export const LOG10_2 = wide(0x9a209a84fbcff7988f8959ac0b7c917826ad30c543d1f3498a5e6f26b7cc63cbn, -257);
