/**
 * The MultiProcessor configuration table, by which systems find processors, the I/O APIC and how interrupts are wired.
 * Intel MultiProcessor Specification 1.4, chapter 4.
 */
import { IO_APIC_BASE } from '../devices/io-apic.ts';
import { LOCAL_APIC_BASE } from '../devices/local-apic.ts';
import { Fields } from './fields.ts';
import type { Piece } from './plan.ts';

/** In the BIOS ROM's range, where the floating pointer is looked for (4.1). */
export const MP_FLOATING_POINTER = 0xf_0000;
const CONFIGURATION = MP_FLOATING_POINTER + 16;

const SPECIFICATION = 4;
const LOCAL_APIC_VERSION = 0x14;
const IO_APIC_VERSION = 0x20;
/** CPUID.1:EDX of a processor with an FPU and an APIC. */
const FEATURES = 0x201;

const PROCESSOR_ENABLED = 1;
const PROCESSOR_BOOTSTRAP = 2;
/** Interrupt types (table 4-10). */
const INT = 0;
const NMI = 1;
const EXTINT = 3;
const ALL_LOCAL_APICS = 0xff;

/** The identifier that the I/O APIC has in the table, after those of the processors. */
export function ioApicId(cpus: number): number {
  return cpus;
}

/** The floating pointer and the table, for RAM. @param signature of the processors, CPUID.1:EAX */
export function mpTable(cpus: number, signature: number): Piece[] {
  const pointer = new Fields().text('_MP_', 4).u32(CONFIGURATION).u8(1, SPECIFICATION, 0, 0, 0, 0, 0, 0);

  const entries = new Fields();
  for (let id = 0; id < cpus; id++) {
    const flags = PROCESSOR_ENABLED | (id === 0 ? PROCESSOR_BOOTSTRAP : 0);
    entries.u8(0, id, LOCAL_APIC_VERSION, flags).u32(signature).u32(FEATURES).u32(0).u32(0);
  }
  entries.u8(1, 0).text('ISA', 6);
  entries.u8(2, ioApicId(cpus), IO_APIC_VERSION, 1).u32(IO_APIC_BASE);
  let count = cpus + 2;
  const io = (type: number, irq: number, pin: number) => {
    entries.u8(3, type).u16(0).u8(0, irq, ioApicId(cpus), pin);
    count++;
  };
  io(EXTINT, 0, 0);
  // The timer is wired to input 2; the cascade has no line.
  for (let irq = 0; irq < 16; irq++) if (irq !== 2) io(INT, irq, irq === 0 ? 2 : irq);
  for (const [type, pin] of [
    [EXTINT, 0],
    [NMI, 1],
  ]) {
    entries.u8(4, type).u16(0).u8(0, 0, ALL_LOCAL_APICS, pin);
    count++;
  }

  const header = new Fields()
    .text('PCMP', 4)
    .u16(44 + entries.bytes.length)
    .u8(SPECIFICATION, 0);
  header.text('ESPFIX', 8).text('PC', 12).u32(0).u16(0).u16(count).u32(LOCAL_APIC_BASE).u32(0);
  header.u8(...entries.bytes);
  return [
    { address: MP_FLOATING_POINTER, bytes: pointer.sum(10).finish() },
    { address: CONFIGURATION, bytes: header.sum(7).finish() },
  ];
}
