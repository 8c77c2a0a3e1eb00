/**
 * espfix as a library: an x86-64 machine to boot images on, look into, step, and take back in time.
 *
 * ```ts
 * import { Machine } from 'espfix';
 * ```
 */
export type { EventSource } from './arch/cpu.ts';
export { type AssertedRun, type Assertion, definePlan, type Plan } from './check/define-plan.ts';
export { ImageError } from './machine/boot/image-error.ts';
export type { BootOptions } from './machine/boot/plan.ts';
export type { FileEntry, FileStatus, FileTree, OpenFile } from './machine/devices/virtio/9p/file-tree.ts';
export { FileError } from './machine/devices/virtio/9p/file-tree.ts';
export type { Disk } from './machine/devices/virtio/block.ts';
export { MAX_CPUS, MAX_MEMORY_MIB } from './machine/limits.ts';
export {
  type Backing,
  type Console,
  Machine,
  type MachineEvents,
  type MachineOptions,
  type RunOptions,
  type Serial,
  type Stop,
  type Trace,
} from './machine/machine.ts';
export { registerNames } from './machine/registers.ts';
export { type Snapshot, SnapshotError } from './machine/snapshot.ts';
export { encodeSnapshot, SNAPSHOT_VERSION } from './machine/snapshot-file.ts';
