/** The WebAssembly module around handlers: what each module of them imports, and the type that all of them have. */
import { I32, I64 } from '../wasm/code.ts';
import { ModuleWriter } from '../wasm/module.ts';
import { IMPORTS } from './handler-builder.ts';

/**
 * A module with the imports that `HandlerBuilder` calls, and the type of a handler: (cpu, op) -> status. Handlers are
 * exported and put into the function table by who instantiates the module: without the table its instances are cheap.
 */
export function handlerModule(): { writer: ModuleWriter; handler: number } {
  const { writer, handler } = pureModule();
  const types: Record<keyof typeof IMPORTS, number> = {
    load: writer.type([I32, I64, I32], [I32]),
    store: writer.type([I32, I64, I32, I64], [I32]),
    probe: writer.type([I32, I64, I32], [I32]),
    system: handler,
    divide: writer.type([I32, I64, I64, I64], [I64]),
    unimplemented: handler,
    storeVector: writer.type([I32, I64, I32], [I32]),
  };
  const names = Object.keys(IMPORTS) as (keyof typeof IMPORTS)[];
  for (const name of names.sort((a, b) => IMPORTS[a] - IMPORTS[b])) writer.importFunction(name, types[name]);
  return { writer, handler };
}

/** The same for functions that call nothing: a module without imports of functions takes a fifth of the time and half the memory. */
export function pureModule(): { writer: ModuleWriter; handler: number } {
  const writer = new ModuleWriter();
  return { writer, handler: writer.type([I32, I32], [I32]) };
}
