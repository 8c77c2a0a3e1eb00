/**
 * Handlers on demand: one WebAssembly function a form, compiled when code of that form is first decoded.
 *
 * Compiled modules are kept for the life of the process and shared by every machine in it; each machine
 * instantiates those that it needs and puts their functions into its own function table.
 */
import { Code } from '../wasm/code.ts';
import { emitMeaning } from './emit-meaning.ts';
import { HandlerBuilder } from './handler-builder.ts';
import type { HandlerForm } from './handler-form.ts';
import { handlerModule } from './handler-module.ts';

/** Function tables start at this size and double. */
const TABLE_SIZE = 1024;

/** A compiled module of one or more handlers, exported by these keys. */
interface Compiled {
  readonly module: WebAssembly.Module;
  readonly keys: readonly string[];
}

const known = new Map<string, Compiled>();

/** Key and form of the handler that all system instructions share, and of that for what is not implemented. */
export const SYSTEM_KEY = 'system';
export const UNIMPLEMENTED_KEY = 'unimplemented';

function compile(batch: ReadonlyMap<string, HandlerForm>): Compiled {
  const { writer, handler } = handlerModule();
  for (const [key, form] of batch) {
    const code = new Code(2);
    emitMeaning(new HandlerBuilder(form, code));
    writer.export(key, writer.define(handler, code));
  }
  return { module: new WebAssembly.Module(writer.finish()), keys: [...batch.keys()] };
}

/** The handlers of one machine. */
export class Handlers {
  /** The function table that handlers are called through. */
  readonly #table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_SIZE });
  readonly #imports: { e: Record<string, WebAssembly.ImportValue> };
  /** Table index of each handler that the machine has or has been promised. */
  readonly #indices = new Map<string, number>();
  readonly #installed = new Set<Compiled>();
  readonly #free: number[] = [];
  #batch = new Map<string, HandlerForm>();
  #wanted = new Set<Compiled>();
  #next: number;

  /**
   * @param environment memory `m` and the functions that handlers import; the table `t` is added.
   * @param reserved table indices below this are not for handlers
   */
  constructor(environment: Record<string, WebAssembly.ImportValue>, reserved: number) {
    this.#imports = { e: { ...environment, t: this.#table } };
    this.#next = reserved;
  }

  /** Instantiates a module that has the same imports, such as the dispatch loop. */
  instantiate(module: WebAssembly.Module): WebAssembly.Instance {
    return new WebAssembly.Instance(module, this.#imports);
  }

  /** Table index of the handler `key`; it works after the next `install`. */
  index(key: string, form: () => HandlerForm): number {
    const index = this.#indices.get(key);
    if (index !== undefined) return index;
    const compiled = known.get(key);
    if (compiled) this.#wanted.add(compiled);
    else this.#batch.set(key, form());
    return this.#reserve(key);
  }

  /** Compiles and instantiates whatever `index` has promised. */
  install(): void {
    if (this.#batch.size > 0) {
      const compiled = compile(this.#batch);
      for (const key of compiled.keys) known.set(key, compiled);
      this.#wanted.add(compiled);
      this.#batch = new Map();
    }
    if (this.#wanted.size === 0) return;
    for (const compiled of this.#wanted) {
      if (this.#installed.has(compiled)) continue;
      this.#installed.add(compiled);
      const { exports } = this.instantiate(compiled.module);
      for (const key of compiled.keys) {
        const index = this.#indices.get(key) ?? this.#reserve(key);
        this.#put(index, exports[key]);
      }
    }
    this.#wanted = new Set();
  }

  /** Puts a function of the type of a handler into the table; returns its index. */
  add(handler: WebAssembly.ExportValue): number {
    const index = this.#free.pop() ?? this.#next++;
    this.#put(index, handler);
    return index;
  }

  /** Takes back what `add` gave: the function can be collected. */
  release(index: number): void {
    this.#table.set(index, null);
    this.#free.push(index);
  }

  #reserve(key: string): number {
    const index = this.#next++;
    this.#indices.set(key, index);
    return index;
  }

  #put(index: number, handler: WebAssembly.ExportValue): void {
    while (index >= this.#table.length) this.#table.grow(this.#table.length);
    this.#table.set(index, handler as () => number);
  }
}
