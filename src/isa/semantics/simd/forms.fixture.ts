/** Every encoding of an instruction on vectors, found by decoding: with registers, and with memory at [rSI]. */
import { decode } from '../../decode/decode.ts';
import type { Instruction } from '../../instruction.ts';
import { avxMnemonics, simdMnemonics } from '../../mnemonics.ts';

const vectors: ReadonlySet<string> = new Set([...simdMnemonics, ...avxMnemonics]);

/** ModR/M bytes: registers 1 and 2; register 1 and memory. For the groups of shifts, each of their members. */
const MODRM = [0xca, 0x0e];
/** For gathers, memory with a SIB byte, which stands where an immediate would: [rDI + vector 0]. */
const INDEXED = [0x0c];
const MEMBERS = Array.from({ length: 8 }, (_, reg) => 0xc2 | (reg << 3));

/** Immediates for each encoding that has one: other meanings, other counts. */
const IMMEDIATES = [0x07, 0x1b, 0x4e, 0xe4];

/** What stands before the opcode: prefixes, REX and escapes, or VEX with its fields. */
function leads(): number[][] {
  const found: number[][] = [];
  for (const map of [1, 2, 3])
    for (const column of [0, 1, 2, 3])
      for (const wide of [0, 1]) {
        const prefix = [[], [0x66], [0xf3], [0xf2]][column];
        const escapes = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][map];
        found.push([...prefix, ...(wide ? [0x48] : []), ...escapes]);
        for (const long of [0, 1])
          for (const vvvv of [0xf, 0xc])
            found.push([0xc4, 0xe0 | map, (wide << 7) | (vvvv << 3) | (long << 2) | column]);
      }
  return found;
}

function modrmBytes(opcode: number): readonly number[] {
  if (opcode >= 0x71 && opcode <= 0x73) return MEMBERS;
  return opcode >= 0x90 && opcode <= 0x93 ? INDEXED : MODRM;
}

/** One instruction of each encoding, mnemonic, kind of operands and, where there is one, immediate. */
export function everyForm(): Instruction[] {
  const found = new Map<string, Instruction>();
  for (const lead of leads())
    for (let opcode = 0; opcode < 256; opcode++) {
      if (lead.at(-1) === 0x0f && (opcode === 0x38 || opcode === 0x3a)) continue;
      for (const modrm of modrmBytes(opcode))
        for (const immediate of IMMEDIATES) {
          const bytes = [...lead, opcode, modrm, immediate, ...new Array(8).fill(0)];
          const instruction = decode(Uint8Array.from(bytes), 0, 12, 64);
          if (!instruction || !vectors.has(instruction.mnemonic)) break;
          const operands = instruction.operands.map((operand) =>
            operand.kind === 'immediate'
              ? `i${operand.value}`
              : `${operand.kind}${'width' in operand ? operand.width : ''}`,
          );
          // REX.W tells nothing where no general register is used, but for the lengths of strings.
          const general =
            operands.some((text) => text.startsWith('register')) || /^v?pcmpestr/.test(instruction.mnemonic);
          const key = `${instruction.mnemonic} ${operands.join(', ')} ${general ? instruction.operandSize : ''}`;
          if (!found.has(key)) found.set(key, instruction);
          if (!operands.some((text) => text.startsWith('i'))) break;
        }
    }
  return [...found.values()];
}
