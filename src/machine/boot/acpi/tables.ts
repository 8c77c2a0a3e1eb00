/**
 * ACPI's tables, by which systems find processors, interrupt controllers, timers, the PCI configuration space, and the
 * way to turn the machine off. ACPI specification 6.4, section 5.2; IA-PC HPET specification 1.0a, section 3.2.4; PCI
 * Firmware Specification 3.3, section 4.1.2.
 */
import { HPET_BASE, HPET_IDENTITY } from '../../devices/hpet.ts';
import { IO_APIC_BASE } from '../../devices/io-apic.ts';
import { LOCAL_APIC_BASE } from '../../devices/local-apic.ts';
import { ECAM_BASE, PCI_BUSES } from '../../devices/pci/layout.ts';
import { Fields } from '../fields.ts';
import { ioApicId } from '../mp-table.ts';
import type { Piece } from '../plan.ts';
import { definitionBlock } from './dsdt.ts';
import {
  OTHER_TABLES,
  PM_PORT,
  RSDP_ADDRESS,
  RSDT_ADDRESS,
  SCI_IRQ,
  TABLES_END,
  XSDT_ADDRESS,
} from './layout.ts';

const HEADER = 36;
const OEM_ID = 'ESPFIX';
const OEM_TABLE_ID = 'ESPFIXPC';
const CREATOR = 'ESPF';

/** Generic address structures (5.2.3.2): system I/O. */
const SYSTEM_IO = 1;
const BYTE_ACCESS = 1;
const WORD_ACCESS = 2;
const DWORD_ACCESS = 3;

/** FADT flags (table 5.10): WBINVD works, C1 on all, no fixed buttons, 32-bit PM timer, reset register. */
const FADT_FLAGS = (1 << 0) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 10);
/** IA-PC boot architecture (table 5.11): legacy devices, 8042, no VGA. */
const BOOT_ARCHITECTURE = (1 << 0) | (1 << 1) | (1 << 2);
const RESET_PORT = 0xcf9;
const RESET_VALUE = 6;

/** MPS INTI flags (table 5.26) of the ACPI interrupt: active high, level-triggered. */
const HIGH_LEVEL = 0b1101;
const PCAT_COMPAT = 1;

/** Bytes of a table behind a header of the given signature and revision, with its checksum. */
function table(signature: string, revision: number, body: readonly number[]): Uint8Array {
  const fields = new Fields()
    .text(signature, 4)
    .u32(HEADER + body.length)
    .u8(revision, 0);
  fields
    .text(OEM_ID, 6)
    .text(OEM_TABLE_ID, 8)
    .u32(1)
    .text(CREATOR, 4)
    .u32(1)
    .u8(...body);
  return fields.sum(9).finish();
}

/** All tables, for RAM in the BIOS ROM's range. */
export function acpiTables(cpus: number): Piece[] {
  const pieces: Piece[] = [];
  let next = OTHER_TABLES;
  const put = (bytes: Uint8Array): number => {
    const address = next;
    if (address + bytes.length > TABLES_END) throw new Error('ACPI tables do not fit');
    pieces.push({ address, bytes });
    next = Math.ceil((address + bytes.length) / 64) * 64;
    return address;
  };
  const facs = put(
    new Fields()
      .text('FACS')
      .u32(64, 0, 0, 0, 0)
      .u64(0)
      .u8(2, ...Array<number>(31).fill(0))
      .finish(),
  );
  const dsdt = put(table('DSDT', 2, definitionBlock(cpus)));
  const described = [fadt(facs, dsdt), madt(cpus), hpet(), mcfg()].map(put);
  return [
    ...pieces,
    { address: RSDT_ADDRESS, bytes: table('RSDT', 1, new Fields().u32(...described).bytes) },
    { address: XSDT_ADDRESS, bytes: table('XSDT', 1, new Fields().u64(...described).bytes) },
    { address: RSDP_ADDRESS, bytes: rsdp() },
  ];
}

/** Root system description pointer (5.2.5.3), with both of its checksums. */
export function rsdp(): Uint8Array {
  const LENGTH = 36;
  const FIRST_PART = 20;
  const fields = new Fields().text('RSD PTR ').u8(0).text(OEM_ID, 6).u8(2);
  fields.u32(RSDT_ADDRESS, LENGTH).u64(XSDT_ADDRESS).u8(0, 0, 0, 0);
  return fields.sum(8, FIRST_PART).sum(32).finish();
}

/** Fixed ACPI description table (5.2.9), as of ACPI 2.0. */
function fadt(facs: number, dsdt: number): Uint8Array {
  const event = PM_PORT;
  const control = PM_PORT + 4;
  const timer = PM_PORT + 8;
  const address = (width: number, access: number, at: number) => (fields: Fields) =>
    at === 0 ? fields.u8(0, 0, 0, 0).u64(0) : fields.u8(SYSTEM_IO, width, 0, access).u64(at);
  const none = address(0, 0, 0);
  const body = new Fields().u32(facs, dsdt).u8(0, 0).u16(SCI_IRQ);
  // No SMI commands: the machine is in ACPI mode always.
  body.u32(0).u8(0, 0, 0, 0);
  body.u32(event, 0, control, 0, 0, timer, 0, 0).u8(4, 2, 0, 4, 0, 0, 0, 0);
  // C2 and C3 are not there: latencies above 100 and 1000 microseconds say so.
  body.u16(101, 1001, 0, 0).u8(0, 0, 0, 0, 0x32).u16(BOOT_ARCHITECTURE).u8(0).u32(FADT_FLAGS);
  address(8, BYTE_ACCESS, RESET_PORT)(body);
  body.u8(RESET_VALUE).u16(0).u8(0).u64(facs, dsdt);
  for (const put of [
    address(32, WORD_ACCESS, event),
    none,
    address(16, WORD_ACCESS, control),
    none,
    none,
    address(32, DWORD_ACCESS, timer),
    none,
    none,
  ])
    put(body);
  return table('FACP', 3, body.bytes);
}

/** Multiple APIC description table (5.2.12). */
function madt(cpus: number): Uint8Array {
  const body = new Fields().u32(LOCAL_APIC_BASE, PCAT_COMPAT);
  for (let id = 0; id < cpus; id++) body.u8(0, 8, id, id).u32(1);
  body.u8(1, 12, ioApicId(cpus), 0).u32(IO_APIC_BASE, 0);
  // The timer is wired to input 2; ACPI's interrupt is not an ISA one.
  body.u8(2, 10, 0, 0).u32(2).u16(0);
  body.u8(2, 10, 0, SCI_IRQ).u32(SCI_IRQ).u16(HIGH_LEVEL);
  body.u8(4, 6, 0xff).u16(0).u8(1);
  return table('APIC', 3, body.bytes);
}

function hpet(): Uint8Array {
  const MINIMUM_TICKS = 100;
  const body = new Fields().u32(HPET_IDENTITY).u8(0, 64, 0, 0).u64(HPET_BASE).u8(0).u16(MINIMUM_TICKS).u8(0);
  return table('HPET', 1, body.bytes);
}

/** Where the PCI configuration space is in memory. */
function mcfg(): Uint8Array {
  const body = new Fields()
    .u64(0, ECAM_BASE)
    .u16(0)
    .u8(0, PCI_BUSES - 1)
    .u32(0);
  return table('MCFG', 1, body.bytes);
}
