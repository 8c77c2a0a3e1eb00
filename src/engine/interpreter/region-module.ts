/** Compiled functions of regions, by code: shared by the machines of the process, and made once where code is dropped and met again. */
import type { CodeSize } from '../../isa/instruction.ts';
import { handlerModule } from './handler-module.ts';
import { Region, type RegionRun } from './region.ts';

/** Modules kept; beyond, all are forgotten but those in use. */
const MOST = 4096;

const modules = new Map<string, WebAssembly.Module>();

/**
 * A module that exports a region's function as `run`.
 * @param key equal for equal code, decoded alike
 */
export function regionModule(
  key: string,
  runs: readonly RegionRun[],
  stackSize: CodeSize,
  flat: boolean,
): WebAssembly.Module {
  let module = modules.get(key);
  if (!module) {
    const { writer, handler } = handlerModule();
    writer.export('run', writer.define(handler, new Region(runs, stackSize, flat).build()));
    module = new WebAssembly.Module(writer.finish());
    if (modules.size >= MOST) modules.clear();
    modules.set(key, module);
  }
  return module;
}
