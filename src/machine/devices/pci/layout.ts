/** Where PCI stands in the board's address spaces, and how its interrupt pins are wired. */

/** One bus; its configuration space in memory (PCI Express Base Specification, "ECAM"), 4 KiB a function. */
export const PCI_BUSES = 1;
export const PCI_DEVICES = 32;
export const ECAM_BASE = 0xc000_0000;
export const ECAM_SIZE = PCI_BUSES << 20;

/** Memory and ports that the host bridge passes on to devices. */
export const PCI_WINDOW_BASE = 0xe000_0000;
export const PCI_WINDOW_SIZE = 0xfec0_0000 - PCI_WINDOW_BASE;
export const PCI_IO_BASE = 0x1000;
export const PCI_IO_SIZE = 0xf000;

/** The interrupt line (input of the I/O APIC) of a slot's pin, 0 for INTA#. */
export function pciInterruptLine(slot: number, pin: number): number {
  return 16 + ((slot + pin) & 3);
}
