/** Compiled functions of runs, by code: shared by the machines of the process, and made once where code is dropped and met again. */
import type { CodeSize, Instruction } from '../../isa/instruction.ts';
import { handlerModule } from './handler-module.ts';
import { RunFunction } from './run-builder.ts';

/** Modules kept; beyond, all are forgotten but those in use. */
const MOST = 4096;

const modules = new Map<string, WebAssembly.Module>();

/**
 * A module that exports a run's function as `run`.
 * @param key equal for equal code, decoded alike
 */
export function runModule(
  key: string,
  instructions: readonly Instruction[],
  stackSize: CodeSize,
): WebAssembly.Module {
  let module = modules.get(key);
  if (!module) {
    const { writer, handler } = handlerModule();
    writer.export('run', writer.define(handler, new RunFunction(instructions, stackSize).build()));
    module = new WebAssembly.Module(writer.finish());
    if (modules.size >= MOST) modules.clear();
    modules.set(key, module);
  }
  return module;
}
