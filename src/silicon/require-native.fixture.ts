/**
 * Native tests: run where the host can, skipped with a word elsewhere, and failing instead where CI says that this host
 * must be able to.
 */
import { hostUnfit } from './native.node.ts';

/** Whether native tests run here. Throws in CI (CI=true) where they cannot. */
export function nativeHere(): boolean {
  const unfit = hostUnfit();
  if (!unfit) return true;
  if (process.env.CI === 'true') throw new Error(`native tests are not to be skipped in CI: this ${unfit}`);
  console.warn(`NATIVE TESTS SKIPPED: this ${unfit}`);
  return false;
}
