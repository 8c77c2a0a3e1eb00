/** Disassembly for reports and for judging differences, by iced-x86. */
import {
  CpuidFeature,
  Decoder,
  DecoderOptions,
  Formatter,
  FormatterSyntax,
  type Instruction,
  Mnemonic,
} from 'iced-x86';

/** One instruction as iced sees it. */
export interface Disassembled {
  readonly offset: number;
  readonly length: number;
  readonly text: string;
  /** iced's mnemonic, such as `Add`; `INVALID` for none. */
  readonly mnemonic: string;
  readonly features: readonly string[];
  readonly flagsRead: number;
  readonly flagsUndefined: number;
  readonly flagsModified: number;
}

/**
 * Disassembles `bytes` from `offset` on, up to `count` instructions.
 * @param rip address of bytes[0]
 */
export function disassemble(
  bytes: Uint8Array,
  bits: 16 | 32 | 64,
  rip: bigint,
  offset = 0,
  count = Number.MAX_SAFE_INTEGER,
): Disassembled[] {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Nasm);
  try {
    decoder.ip = rip + BigInt(offset);
    decoder.position = offset;
    const found: Disassembled[] = [];
    while (decoder.canDecode && found.length < count) {
      const at = decoder.position;
      const instruction: Instruction = decoder.decode();
      const features = Array.from(instruction.cpuidFeatures() as Iterable<CpuidFeature>);
      found.push({
        offset: at,
        length: Math.max(1, instruction.length),
        text: formatter.format(instruction),
        mnemonic: Mnemonic[instruction.mnemonic],
        features: features.map((feature) => CpuidFeature[feature]),
        flagsRead: instruction.rflagsRead,
        flagsUndefined: instruction.rflagsUndefined,
        flagsModified: instruction.rflagsModified,
      });
      instruction.free();
    }
    return found;
  } finally {
    decoder.free();
    formatter.free();
  }
}
