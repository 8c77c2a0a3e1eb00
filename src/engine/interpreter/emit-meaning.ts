/** Which meaning an instruction has: its semantics, a call of arch, or one of the ways not to be an instruction. */
import { type IntegerMnemonic, integerMnemonics, systemMnemonics } from '../../isa/mnemonics.ts';
import { semantics } from '../../isa/semantics/index.ts';
import type { HandlerBuilder } from './handler-builder.ts';

const isInteger: ReadonlySet<string> = new Set(integerMnemonics);
const isSystem: ReadonlySet<string> = new Set(systemMnemonics);

const UD = 6;
const GP = 13;

/** Emits the whole meaning of the builder's form. */
export function emitMeaning(builder: HandlerBuilder): void {
  const { mnemonic } = builder.form;
  if (isInteger.has(mnemonic)) semantics[mnemonic as IntegerMnemonic](builder);
  else if (isSystem.has(mnemonic)) builder.system();
  else if (mnemonic === 'invalid') builder.fault(UD);
  else if (mnemonic === 'toolong') builder.fault(GP, 0);
  else builder.unimplemented();
  builder.finish();
}
