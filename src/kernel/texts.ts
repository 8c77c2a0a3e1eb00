/** Texts that the kernel prints, in 32- and 64-bit code. */

import { type Assembler, eax, esi, mem, sym, wordRegisters } from './assembler.ts';
import { vectorNames } from './report.ts';

/** Texts that the kernel prints, each under a label. */
export class Texts {
  readonly #a: Assembler;
  readonly #bits: 32 | 64;
  readonly #known = new Map<string, string>();

  constructor(a: Assembler, bits: 32 | 64) {
    this.#a = a;
    this.#bits = bits;
  }

  /** Emits code that prints `text`; RAX, RCX, RDX, RSI and RDI are changed. */
  print(text: string): void {
    let label = this.#known.get(text);
    if (label === undefined) {
      label = `text.${this.#known.size}`;
      this.#known.set(text, label);
    }
    const { ax, si, di } = wordRegisters(this.#bits);
    this.#a.lea(di, mem(label));
    this.#a.mov(eax, text.length);
    this.#a.mov(si, ax);
    this.#a.call('put_string');
  }

  /** Emits code that prints RDI with so many hexadecimal digits; changes the same registers. */
  hex(digits: number): void {
    this.#a.mov(esi, digits);
    this.#a.call('put_hex');
  }

  /** Emits the texts themselves, and the names of exceptions. */
  emit(): void {
    this.#a.section('.rodata');
    for (const [text, label] of this.#known) this.#a.label(label).db(text);
    emitVectorNames(this.#a);
  }
}

/** Emits `vector_names`, address and length of each exception's name as 64-bit words, into the current section. */
function emitVectorNames(a: Assembler): void {
  a.align(8);
  a.label('vector_names');
  for (let v = 0; v < 32; v++)
    a.dq(sym(`vector_name.${Math.min(v, vectorNames.length)}`), (vectorNames[v] ?? 'reserved').length);
  for (const [v, name] of [...vectorNames, 'reserved'].entries()) a.label(`vector_name.${v}`).db(name);
}
