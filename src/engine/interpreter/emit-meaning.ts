/** Which meaning an instruction has: its semantics, a call of arch, or one of the ways not to be an instruction. */
import type { Semantic } from '../../isa/builder.ts';
import { systemMnemonics } from '../../isa/mnemonics.ts';
import { meanings } from '../../isa/semantics/index.ts';
import type { HandlerBuilder } from './handler-builder.ts';

const semantics: Readonly<Partial<Record<string, Semantic>>> = meanings;
const isSystem: ReadonlySet<string> = new Set(systemMnemonics);

const UD = 6;
const NM = 7;
const GP = 13;

/** Emits the whole meaning of the builder's form. */
export function emitMeaning(builder: HandlerBuilder): void {
  const { mnemonic } = builder.form;
  const semantic = semantics[mnemonic];
  if (semantic) semantic(builder);
  else if (isSystem.has(mnemonic)) builder.system();
  else if (mnemonic === 'invalid') builder.fault(UD);
  else if (mnemonic === 'nodevice') builder.fault(NM);
  else if (mnemonic === 'toolong') builder.fault(GP, 0);
  else builder.unimplemented();
  builder.finish();
}
