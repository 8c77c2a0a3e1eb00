/**
 * Memory types as PC firmware leaves them: RAM write-back, what is above it for devices uncacheable. SDM vol. 3A 11.11
 * "Memory Type Range Registers (MTRRs)".
 *
 * They change nothing in this machine, but systems look: with MTRRs off, Linux would not use the PAT.
 */
import type { Cpu } from '../../arch/cpu.ts';
import { MAXPHYADDR } from '../../arch/paging.ts';

const ENABLED = 1n << 11n;
const FIXED_ENABLED = 1n << 10n;
const WRITE_BACK = 6n;
const UNCACHEABLE = 0n;
const VALID = 1n << 11n;
/** Devices are in the last of the first 4 GiB. */
const DEVICES = 0xc000_0000n;
const GIB = 1n << 30n;

/** Sets a processor's MTRRs. */
export function initialiseMemoryTypes(cpu: Cpu): void {
  cpu.mtrrDefType = ENABLED | FIXED_ENABLED | WRITE_BACK;
  cpu.mtrrFixed.fill(0x0606_0606_0606_0606n);
  cpu.mtrrBase[0] = DEVICES | UNCACHEABLE;
  cpu.mtrrMask[0] = ((1n << BigInt(MAXPHYADDR)) - GIB) | VALID;
}
