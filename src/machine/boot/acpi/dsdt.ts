/**
 * The DSDT's definition block: what of the board does not tell of itself. ACPI specification 6.4, chapters 6 "Device
 * Configuration", 7.4 "OEM-Supplied System-Level Control Methods", 8 "Processor Configuration"; PCI Firmware
 * Specification 3.3, section 4.
 */
import { HPET_BASE, HPET_SIZE } from '../../devices/hpet.ts';
import {
  ECAM_BASE,
  ECAM_SIZE,
  PCI_BUSES,
  PCI_DEVICES,
  PCI_IO_BASE,
  PCI_IO_SIZE,
  PCI_WINDOW_BASE,
  PCI_WINDOW_SIZE,
  pciInterruptLine,
} from '../../devices/pci/layout.ts';
import {
  type Aml,
  aPackage,
  busNumbers,
  device,
  eisaId,
  fixedMemory,
  ioPorts,
  ioWindow,
  irq,
  memoryWindow,
  name,
  resources,
  scope,
} from './aml.ts';
import { PM_PORT, PM_PORTS, SLEEP_TYPE_S5 } from './layout.ts';

/** The definition block for a machine of `cpus` processors, without the table's header. */
export function definitionBlock(cpus: number): Aml {
  return [
    ...name('\\_S5', aPackage(SLEEP_TYPE_S5, SLEEP_TYPE_S5, 0, 0)),
    ...scope(
      '\\_SB',
      ...Array.from({ length: cpus }, (_, id) =>
        device(
          `C${id.toString(16).toUpperCase().padStart(3, '0')}`,
          name('_HID', 'ACPI0007'),
          name('_UID', id),
        ),
      ),
      isaDevice('HPET', 'PNP0103', fixedMemory(HPET_BASE, HPET_SIZE)),
      // The configuration space must be told of as taken, or systems do not use it.
      isaDevice('MRES', 'PNP0C02', fixedMemory(ECAM_BASE, ECAM_SIZE), ioPorts(PM_PORT, PM_PORTS)),
      device(
        'PCI0',
        name('_HID', eisaId('PNP0A08')),
        name('_CID', eisaId('PNP0A03')),
        name('_UID', 0),
        name('_BBN', 0),
        name('_SEG', 0),
        name(
          '_CRS',
          resources(
            busNumbers(0, PCI_BUSES),
            ioPorts(0xcf8, 8),
            ioWindow(PCI_IO_BASE, PCI_IO_SIZE),
            memoryWindow(PCI_WINDOW_BASE, PCI_WINDOW_SIZE),
          ),
        ),
        name('_PRT', aPackage(...interruptRouting())),
        isaDevice('RTC', 'PNP0B00', ioPorts(0x70, 2), irq(8)),
        isaDevice('KBD', 'PNP0303', ioPorts(0x60, 1), ioPorts(0x64, 1), irq(1)),
        isaDevice('COM1', 'PNP0501', ioPorts(0x3f8, 8), irq(4)),
      ),
    ),
  ];
}

function isaDevice(deviceName: string, id: string, ...descriptors: Aml[]): Aml {
  return device(deviceName, name('_HID', eisaId(id)), name('_CRS', resources(...descriptors)));
}

/** Each pin of each slot, and the I/O APIC's input that it is wired to (6.2.13 "_PRT"). */
function interruptRouting(): Aml[] {
  const ANY_FUNCTION = 0xffff;
  const NOT_A_LINK = 0;
  const routes: Aml[] = [];
  for (let slot = 1; slot < PCI_DEVICES; slot++)
    for (let pin = 0; pin < 4; pin++)
      routes.push(
        aPackage(((slot << 16) | ANY_FUNCTION) >>> 0, pin, NOT_A_LINK, pciInterruptLine(slot, pin)),
      );
  return routes;
}
