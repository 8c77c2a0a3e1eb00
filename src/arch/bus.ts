/** What a processor is wired to: physical memory, ports, its interrupt controller and the clock. */

/** The engine's view of which RAM pages hold code it has decoded. */
export interface CodeWatcher {
  /** Whether decoded code stands in the 4-KiB page of physical `address`. */
  hasCode(address: number): boolean;
  /** RAM at [address, address + size) changed (within one page): decoded code that covers it is dropped. */
  written(address: number, size: number): void;
}

export interface Bus {
  /**
   * Offset in WebAssembly memory of the RAM byte at physical `address`, or -1 where no RAM answers (MMIO, or
   * nothing). The rest of its 4-KiB page follows it.
   */
  ramOffset(address: number): number;
  /** Physical read of `size` bytes, not crossing a page. RAM or device; nothing there reads as all ones. */
  read(address: number, size: 1 | 2 | 4 | 8): bigint;
  /** Physical write: marks the page dirty and drops code decoded from those bytes. */
  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void;
  /** The page of RAM at `address` is about to be written behind the bus's back (a fast TLB entry for writing is made). */
  willWrite(address: number): void;
  /** Set by the engine; `write` (and DMA, loaders, restores) must tell it of every RAM write to a page with code. */
  code: CodeWatcher;

  portRead(port: number, size: 1 | 2 | 4): number;
  portWrite(port: number, size: 1 | 2 | 4, value: number): void;

  /** Machine time in ticks of 1 ns (1 GHz TSC), below 2^53. An instruction takes one, but for those of durations.ts. */
  now(cpuIndex: number): number;
  /** Takes a processor's time on by `ticks`. */
  spend(cpuIndex: number, ticks: number): void;
  /** The next 64 bits of the run's seeded random sequence (RDRAND, RDSEED). */
  random(): bigint;
}

/** A processor's local APIC and the INTR line as arch sees them. */
export interface InterruptController {
  /** An external interrupt is waiting that the task priority lets through. */
  pending(): boolean;
  /** Takes it: returns its vector (8259 or APIC acknowledge cycle). */
  acknowledge(): number;
  /** CR8, bits 3:0. */
  taskPriority: number;
  /** x2APIC registers, IA32_APIC_BASE changes and TSC deadline: MSR numbers as the guest names them. Throws #GP. */
  readMsr(index: number): bigint;
  writeMsr(index: number, value: bigint): void;
}
