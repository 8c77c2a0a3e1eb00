/** The form of a decoded instruction: what its handler is made for, and the key that names it. */
import type { Form, OperandForm } from '../../isa/builder.ts';
import { type CodeSize, type Instruction, isVex, vectorImmediate } from '../../isa/instruction.ts';
import { FS, GS } from '../../isa/state.ts';
import { memoryOperand } from './op.ts';

/** How a memory operand's effective address is made. */
export type AddressForm = 'none' | 'base' | 'indexed' | 'rip';

export interface HandlerForm extends Form {
  readonly addressForm: AddressForm;
}

/** @param stackSize width of the stack pointer in the context that the instruction is decoded for. */
export function formOf(instruction: Instruction, stackSize: CodeSize): HandlerForm {
  const memory = memoryOperand(instruction);
  const operands: OperandForm[] = instruction.operands.map((operand) => {
    switch (operand.kind) {
      case 'register':
      case 'memory':
      case 'immediate':
      case 'mm':
      case 'xmm':
      case 'ymm':
        return { kind: operand.kind, width: operand.width };
      case 'relative':
        return { kind: 'relative', width: 0 };
      default:
        throw new Error(
          `operand of kind ${operand.kind} has no place in the form of ${instruction.mnemonic}`,
        );
    }
  });
  return {
    mnemonic: instruction.mnemonic,
    operandSize: instruction.operandSize,
    addressSize: instruction.addressSize,
    codeSize: instruction.codeSize,
    stackSize,
    operands,
    condition: instruction.condition,
    repeat: instruction.repeat,
    segmented: instruction.codeSize !== 64 || instruction.segment === FS || instruction.segment === GS,
    vex: isVex(instruction),
    immediate: vectorImmediate(instruction),
    addressForm: !memory ? 'none' : memory.ripRelative ? 'rip' : memory.index < 0 ? 'base' : 'indexed',
  };
}

const KIND_LETTERS: Readonly<Record<OperandForm['kind'], string>> = {
  register: 'r',
  memory: 'm',
  immediate: 'i',
  relative: 'j',
  mm: 'p',
  xmm: 'x',
  ymm: 'y',
};

/** Equal for two forms if and only if one handler serves both. */
export function formKey(form: HandlerForm): string {
  const operands = form.operands.map(({ kind, width }) => `${KIND_LETTERS[kind]}${width}`).join('');
  return `${form.mnemonic} ${form.operandSize} ${form.addressSize} ${form.codeSize} ${form.stackSize} ${operands} ${
    form.condition
  } ${form.repeat} ${form.segmented ? 's' : ''} ${form.addressForm} ${form.immediate}`;
}

const WIDTHS: readonly number[] = [0, 8, 16, 32, 64, 128, 256];
const KINDS: readonly string[] = ['', ...Object.keys(KIND_LETTERS)];

/**
 * A number that two instructions of one mnemonic share only if they have the same form, or -1 for forms that have none: what
 * {@link formKey} says without the form being made.
 */
export function formNumber(instruction: Instruction, stackSize: CodeSize): number {
  const { operands, codeSize, repeat } = instruction;
  if (operands.length > 3) return -1;
  let addressForm = 0;
  let number = 0;
  for (let n = 0; n < 3; n++) {
    const operand = operands[n];
    const kind = operand ? KINDS.indexOf(operand.kind) : 0;
    const width = operand && 'width' in operand ? WIDTHS.indexOf(operand.width) : 0;
    // A vector's immediate is part of its form.
    if (kind < 0 || width < 0 || kind >= VECTOR_KIND) return -1;
    number = number * 64 + kind * 8 + width;
    if (operand?.kind === 'memory') addressForm = operand.ripRelative ? 1 : operand.index < 0 ? 2 : 3;
  }
  const segmented = codeSize !== 64 || instruction.segment === FS || instruction.segment === GS;
  const sizes =
    ((WIDTHS.indexOf(instruction.operandSize) * 8 + WIDTHS.indexOf(instruction.addressSize)) * 8 +
      WIDTHS.indexOf(codeSize)) *
      8 +
    WIDTHS.indexOf(stackSize);
  number = number * 4096 + sizes;
  number = number * 16 + instruction.condition;
  number = number * 4 + (repeat === '' ? 0 : repeat === 'rep' ? 1 : 2);
  return number * 8 + addressForm * 2 + (segmented ? 1 : 0);
}

const VECTOR_KIND = KINDS.indexOf('mm');
