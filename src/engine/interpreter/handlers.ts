/**
 * Handlers on demand: one WebAssembly function a form, compiled when code of that form is first decoded.
 *
 * Compiled modules are kept for the life of the process and shared by every machine in it; each machine
 * instantiates those that it needs into its own function table.
 */
import { type IntegerMnemonic, integerMnemonics, systemMnemonics } from '../../isa/mnemonics.ts';
import { semantics } from '../../isa/semantics/index.ts';
import { Code } from '../wasm/code.ts';
import { HandlerBuilder } from './handler-builder.ts';
import type { HandlerForm } from './handler-form.ts';
import { handlerModule } from './handler-module.ts';

/** Function tables start at this size and grow by as much. */
const TABLE_STEP = 4096;

/** A compiled module of one or more handlers. */
interface Compiled {
  readonly module: WebAssembly.Module;
}

interface Known {
  readonly index: number;
  /** Absent until the handler's batch is compiled. */
  compiled: Compiled | undefined;
}

const known = new Map<string, Known>();
let nextIndex = 1;

const isInteger: ReadonlySet<string> = new Set(integerMnemonics);
const isSystem: ReadonlySet<string> = new Set(systemMnemonics);

/** Key and form of the handler that all system instructions share, and of that for what is not implemented. */
export const SYSTEM_KEY = 'system';
export const UNIMPLEMENTED_KEY = 'unimplemented';

const UD = 6;
const GP = 13;

function body(form: HandlerForm): Code {
  const code = new Code(2);
  const builder = new HandlerBuilder(form, code);
  const { mnemonic } = form;
  if (isInteger.has(mnemonic)) semantics[mnemonic as IntegerMnemonic](builder);
  else if (isSystem.has(mnemonic)) builder.system();
  else if (mnemonic === 'invalid') builder.fault(UD);
  else if (mnemonic === 'toolong') builder.fault(GP, 0);
  else builder.unimplemented();
  builder.finish();
  return code;
}

function compile(batch: readonly { index: number; form: HandlerForm }[]): Compiled {
  const { writer, handler } = handlerModule();
  for (const { index, form } of batch) writer.element(index, writer.define(handler, body(form)));
  return { module: new WebAssembly.Module(writer.finish()) };
}

/** The handlers of one machine. */
export class Handlers {
  /** The function table that handlers call and are called through. */
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_STEP });
  private readonly imports: { e: Record<string, WebAssembly.ImportValue> };
  private readonly installed = new Set<Compiled>();
  private batch: { index: number; form: HandlerForm; entry: Known }[] = [];
  private wanted = new Set<Known>();

  /** @param environment memory `m` and the functions that handlers import; the table `t` is added. */
  constructor(environment: Record<string, WebAssembly.ImportValue>) {
    this.imports = { e: { ...environment, t: this.table } };
  }

  /** Instantiates a module that has the same imports, such as the dispatch loop. */
  instantiate(module: WebAssembly.Module): WebAssembly.Instance {
    return new WebAssembly.Instance(module, this.imports);
  }

  /** Table index of the handler `key`; it works after the next `install`. */
  index(key: string, form: () => HandlerForm): number {
    let entry = known.get(key);
    if (!entry) {
      entry = { index: nextIndex++, compiled: undefined };
      known.set(key, entry);
    }
    if (!entry.compiled) {
      if (!this.wanted.has(entry)) this.batch.push({ index: entry.index, form: form(), entry });
      this.wanted.add(entry);
    } else if (!this.installed.has(entry.compiled)) {
      this.wanted.add(entry);
    }
    return entry.index;
  }

  /** Compiles and instantiates whatever `index` has promised. */
  install(): void {
    if (this.wanted.size === 0) return;
    if (this.batch.length > 0) {
      const compiled = compile(this.batch);
      for (const { entry } of this.batch) entry.compiled = compiled;
      this.batch = [];
    }
    while (nextIndex > this.table.length) this.table.grow(TABLE_STEP);
    for (const { compiled } of this.wanted) {
      if (compiled && !this.installed.has(compiled)) {
        this.instantiate(compiled.module);
        this.installed.add(compiled);
      }
    }
    this.wanted.clear();
  }
}
