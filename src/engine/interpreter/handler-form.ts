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
