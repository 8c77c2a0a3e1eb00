/** Runs programs natively. Node-only. */
import { spawnSync } from 'node:child_process';
import { hostUnfit, placeExecutable, readCpuInfo } from './native.node.ts';

export { hostUnfit, readCpuInfo };

/** How a native program ended, and its standard output. */
export interface NativeEnding {
  readonly status: number | null;
  readonly signal: string | null;
  readonly output: Uint8Array;
}

/** Runs a static executable with no arguments for at most ten seconds. Throws if it cannot be started. */
export function runNatively(image: Uint8Array): NativeEnding {
  const executable = placeExecutable(image);
  try {
    const { status, signal, stdout, error } = spawnSync(executable.path, [], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 10_000,
      env: {},
    });
    if (error) throw error;
    return { status, signal, output: stdout };
  } finally {
    executable.remove();
  }
}
