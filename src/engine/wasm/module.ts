/** Writer of WebAssembly modules. WebAssembly Core Specification 2.0, section 5.5. */
import { type Code, signed, unsigned, type ValueType } from './code.ts';

export interface FunctionType {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
}

interface Import {
  readonly name: string;
  readonly type: number;
}

/**
 * A module that imports one memory (`m`), functions and, where it asks for it, one function table (`t`), all from
 * module `e`, defines functions, puts some of them into the table and exports others. An instance with a table costs
 * time in proportion to the table's size.
 */
export class ModuleWriter {
  private readonly types: FunctionType[] = [];
  private readonly imports: Import[] = [];
  private readonly functions: { type: number; code: Code }[] = [];
  private readonly exports: { name: string; index: number }[] = [];
  private readonly elements: { at: number; index: number }[] = [];
  private table = false;

  type(parameters: readonly ValueType[], results: readonly ValueType[]): number {
    const known = this.types.findIndex(
      (t) => t.parameters.join() === parameters.join() && t.results.join() === results.join(),
    );
    if (known >= 0) return known;
    this.types.push({ parameters, results });
    return this.types.length - 1;
  }

  /** Imports a function; all imports come before the first definition. Returns its index. */
  importFunction(name: string, type: number): number {
    this.imports.push({ name, type });
    return this.imports.length - 1;
  }

  /** Imports the table, for indirect calls and elements. */
  importTable(): void {
    this.table = true;
  }

  /** Adds a function; returns its index. */
  define(type: number, code: Code): number {
    this.functions.push({ type, code });
    return this.imports.length + this.functions.length - 1;
  }

  export(name: string, index: number): void {
    this.exports.push({ name, index });
  }

  /** Function `index` goes into the table at `at`. */
  element(at: number, index: number): void {
    this.elements.push({ at, index });
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out: number[] = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
    const section = (id: number, count: number, body: number[]) => {
      const counted: number[] = [];
      unsigned(counted, count);
      out.push(id);
      unsigned(out, counted.length + body.length);
      for (const byte of counted) out.push(byte);
      for (const byte of body) out.push(byte);
    };
    const text = (to: number[], value: string) => {
      unsigned(to, value.length);
      for (let i = 0; i < value.length; i++) to.push(value.charCodeAt(i));
    };

    const types: number[] = [];
    for (const type of this.types) {
      types.push(0x60);
      unsigned(types, type.parameters.length);
      types.push(...type.parameters);
      unsigned(types, type.results.length);
      types.push(...type.results);
    }
    section(1, this.types.length, types);

    const imports: number[] = [];
    text(imports, 'e');
    text(imports, 'm');
    imports.push(0x02, 0x00, 0x00);
    if (this.table) {
      text(imports, 'e');
      text(imports, 't');
      imports.push(0x01, 0x70, 0x00, 0x00);
    }
    for (const entry of this.imports) {
      text(imports, 'e');
      text(imports, entry.name);
      imports.push(0x00);
      unsigned(imports, entry.type);
    }
    section(2, this.imports.length + (this.table ? 2 : 1), imports);

    const functions: number[] = [];
    for (const entry of this.functions) unsigned(functions, entry.type);
    section(3, this.functions.length, functions);

    const exports: number[] = [];
    for (const entry of this.exports) {
      text(exports, entry.name);
      exports.push(0x00);
      unsigned(exports, entry.index);
    }
    section(7, this.exports.length, exports);

    const elements: number[] = [];
    for (const { at, index } of this.elements) {
      elements.push(0x00, 0x41);
      signed(elements, BigInt(at));
      elements.push(0x0b);
      unsigned(elements, 1);
      unsigned(elements, index);
    }
    section(9, this.elements.length, elements);

    const code: number[] = [];
    for (const entry of this.functions) for (const byte of entry.code.finish()) code.push(byte);
    section(10, this.functions.length, code);
    return new Uint8Array(out);
  }
}
