/** Compiled functions of regions, by code: shared by the machines of the process, and made once where code is dropped and met again. */
import type { CodeSize } from '../../isa/instruction.ts';
import { pureModule } from './handler-module.ts';
import { Recent } from './recent.ts';
import { Region, type RegionRun } from './region.ts';

/**
 * At the most so many modules are kept, and at least half as many of those used last. One takes V8 some 60 KBytes, and is freed when neither this nor an
 * instance refers to it.
 */
const MOST = 4096;

const modules = new Recent<string, WebAssembly.Module>(MOST);

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
  return modules.get(key, () => {
    const { writer, handler } = pureModule();
    writer.export('run', writer.define(handler, new Region(runs, stackSize, flat).build()));
    return new WebAssembly.Module(writer.finish());
  });
}
