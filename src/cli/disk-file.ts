/** A file of the host as a guest's disk. */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import type { Disk } from '../machine/devices/virtio/block.ts';
import { fileError, UserError } from './failure.ts';

const SECTOR = 512;

export interface DiskFile extends Disk {
  close(): void;
}

/**
 * Opens a disk image; throws a UserError that names it.
 *
 * @param writable what the guest writes goes to the file. @param trouble called with one line when the file cannot be
 * read or written any more, once; the guest is told of each error.
 */
export function openDisk(file: string, writable: boolean, trouble: (line: string) => void): DiskFile {
  let descriptor: number;
  let size: number;
  try {
    // A pipe or a device that is not ready must not be waited for.
    descriptor = openSync(file, (writable ? constants.O_RDWR : constants.O_RDONLY) | constants.O_NONBLOCK);
    const status = fstatSync(descriptor);
    size = status.size;
    if (!status.isFile()) {
      closeSync(descriptor);
      throw new UserError(`${file}: expected a regular file`);
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw fileError(file, error);
  }
  if (size === 0 || size % SECTOR !== 0) {
    closeSync(descriptor);
    throw new UserError(`${file}: ${size} bytes, expected a multiple of ${SECTOR} for a disk`);
  }
  let told = false;
  const attempt = (what: string, action: () => boolean): boolean => {
    let reason = 'the file has become shorter';
    try {
      if (action()) return true;
    } catch (error) {
      reason = fileError(file, error).message.slice(file.length + 2);
    }
    if (!told) trouble(`${file}: cannot be ${what}: ${reason}`);
    told = true;
    return false;
  };
  return {
    size,
    writable,
    read: (offset, bytes) =>
      attempt('read', () => {
        for (let at = 0; at < bytes.length; ) {
          const count = readSync(descriptor, bytes, at, bytes.length - at, offset + at);
          if (count === 0) return false;
          at += count;
        }
        return true;
      }),
    write: (offset, bytes) =>
      attempt('written', () => {
        // A file that has become shorter is not to be made longer again.
        if (fstatSync(descriptor).size < offset + bytes.length) return false;
        for (let at = 0; at < bytes.length; )
          at += writeSync(descriptor, bytes, at, bytes.length - at, offset + at);
        return true;
      }),
    flush: () =>
      attempt('written', () => {
        if (writable) fsyncSync(descriptor);
        return true;
      }),
    close: () => closeSync(descriptor),
  };
}
