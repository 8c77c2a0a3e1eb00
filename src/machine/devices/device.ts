/** What a device is to the machine: ranges of addresses or ports that it answers, a clock, lines, and state. */

/** State of a device as plain data: what `save` gives, a snapshot keeps and its file holds. */
export type Plain =
  | number
  | bigint
  | boolean
  | Uint8Array
  | Uint32Array
  | readonly number[]
  | { readonly [name: string]: Plain };

/** A device whose registers stand in physical memory. Accesses of 8 bytes come as two of 4, the lower first. */
export interface MmioDevice {
  /** First physical address. */
  readonly base: number;
  /** Bytes of the range. */
  readonly size: number;
  /** It tells of itself whether it has changed: accesses need not be counted. */
  readonly knowsChanges?: boolean;
  /** @returns the value, unsigned, of `size` bytes at `offset` from the base. */
  read(offset: number, size: 1 | 2 | 4): number;
  write(offset: number, size: 1 | 2 | 4, value: number): void;
}

/** A device whose registers stand at I/O ports. */
export interface PortDevice {
  /** First port and number of ports. */
  readonly port: number;
  readonly count: number;
  /** Bytes of its widest access; a wider one comes as several of one byte, as on the ISA bus. */
  readonly width: 1 | 2 | 4;
  portRead(port: number, size: 1 | 2 | 4): number;
  portWrite(port: number, size: 1 | 2 | 4, value: number): void;
}

/** Never, as a time. */
export const NEVER = Number.POSITIVE_INFINITY;

/** A device that does something at times of its own. Times are ticks of guest time (nominally ns). */
export interface TimedDevice {
  /** When it next does something that others can see; `NEVER` if nothing is to come. */
  deadline(): number;
  /** Brings the device up to time `now`. */
  advance(now: number): void;
}

/** A device's state can be taken and put back. What `save` returned is never changed afterwards. */
export interface Saved<State extends Plain> {
  save(): State;
  restore(state: State): void;
}

/** What time it is for whoever accesses the device. */
export type Clock = () => number;

/** A wire: called with whether it is asserted. */
export type Line = (asserted: boolean) => void;
