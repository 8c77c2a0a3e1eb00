/** Exceptions as arch code raises them. SDM vol. 3A chapter 6, table 6-1. */

export const DE = 0;
export const DB = 1;
export const NMI = 2;
export const BP = 3;
export const OF = 4;
export const BR = 5;
export const UD = 6;
export const NM = 7;
export const DF = 8;
export const TS = 10;
export const NP = 11;
export const SS = 12;
export const GP = 13;
export const PF = 14;
export const MF = 16;
export const AC = 17;
export const MC = 18;
export const XM = 19;

/**
 * A fault, thrown by arch code before it has changed any state (not an Error: no stack is captured).
 * A page fault has already set CR2 when it is thrown.
 */
export class Fault {
  readonly vector: number;
  readonly errorCode: number | undefined;
  constructor(vector: number, errorCode?: number) {
    this.vector = vector;
    this.errorCode = errorCode;
  }
}

export const ud = () => new Fault(UD);
export const gp = (errorCode = 0) => new Fault(GP, errorCode);
export const ss = (errorCode = 0) => new Fault(SS, errorCode);
export const ts = (errorCode: number) => new Fault(TS, errorCode);
export const np = (errorCode: number) => new Fault(NP, errorCode);

/** The machine stops: an exception while delivering #DF (SDM vol. 3A 6.15, "Interrupt 8"). */
export class TripleFault {
  readonly rip: bigint;
  constructor(rip: bigint) {
    this.rip = rip;
  }
}

/** The guest used an instruction that the machine does not have yet. */
export class UnimplementedInstruction extends Error {
  readonly rip: bigint;
  readonly bytes: Uint8Array;
  constructor(rip: bigint, bytes: Uint8Array) {
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    super(`unimplemented instruction at RIP 0x${rip.toString(16)}: ${hex}`);
    this.name = 'UnimplementedInstruction';
    this.rip = rip;
    this.bytes = bytes;
  }
}
