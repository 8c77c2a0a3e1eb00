/**
 * The board: every device, and how they are wired. The memory map and interrupt lines are a PC's: ISA interrupts go to
 * the 8259s and to the I/O APIC's input of the same number, but the timer's to input 2 and the 8259s' own to input 0.
 */
import { UnimplementedInstruction } from '../arch/fault.ts';
import { SCI_IRQ } from './boot/acpi/layout.ts';
import { ioApicId } from './boot/mp-table.ts';
import { AcpiPm } from './devices/acpi-pm.ts';
import { messageSignalled, route } from './devices/apic-message.ts';
import { DebugExit } from './devices/debug-exit.ts';
import type { MmioDevice, Plain, Saved, TimedDevice } from './devices/device.ts';
import { Hpet } from './devices/hpet.ts';
import { I8042 } from './devices/i8042.ts';
import { I8254 } from './devices/i8254.ts';
import { I8259Pair } from './devices/i8259.ts';
import { IO_APIC_BASE, IO_APIC_PINS, IoApic } from './devices/io-apic.ts';
import { LocalApic } from './devices/local-apic.ts';
import { NumericError } from './devices/numeric-error.ts';
import { PciHost } from './devices/pci/host.ts';
import { PCI_WINDOW_BASE, pciInterruptLine } from './devices/pci/layout.ts';
import { Rtc } from './devices/rtc.ts';
import { SystemControl } from './devices/system-control.ts';
import { Uart16550 } from './devices/uart-16550.ts';
import { type VirtioModel, VirtioPci, type VirtioPort } from './devices/virtio/transport.ts';
import type { SystemBus } from './memory.ts';

const COM1 = 0x3f8;
const TIMER_IRQ = 0;
const KEYBOARD_IRQ = 1;
const COM1_IRQ = 4;
const RTC_IRQ = 8;
const NUMERIC_ERROR_IRQ = 13;
/** Bytes that must not be covered by a moved local APIC. */
const PAGE = 0x1000;

/** Addresses that firmware gives to the memory of each slot's device. */
const SLOT_MEMORY = 0x1_0000;

/** Devices beside the local APICs, in the order in which they are saved. */
const OTHERS = [
  'ioApic',
  'pic',
  'pit',
  'uart',
  'rtc',
  'systemControl',
  'numericError',
  'keyboard',
  'hpet',
  'pm',
  'pci',
] as const;

/** What the board needs of the machine. */
export interface BoardOptions {
  readonly cpus: number;
  readonly epoch: number;
  /** Devices for the PCI bus, by slot from 1 on. */
  readonly plugged: readonly ((port: VirtioPort) => VirtioModel)[];
  /** Time of a processor. */
  timeOf(cpu: number): number;
  /** The processor that is accessing devices. */
  current(): number;
  /** Processor `cpu` must look at its events and deadlines soon. */
  endRun(cpu: number): void;
  /** Processor `cpu` takes its pending INIT, if it is not running. */
  takeInit(cpu: number): void;
  exit(value: number): void;
  reset(): void;
  powerOff(): void;
}

export class Board {
  readonly localApics: readonly LocalApic[];
  readonly ioApic: IoApic;
  readonly pic: I8259Pair;
  readonly pit: I8254;
  readonly uart: Uart16550;
  readonly rtc: Rtc;
  readonly systemControl: SystemControl;
  readonly numericError: NumericError;
  readonly keyboard: I8042;
  readonly hpet: Hpet;
  readonly pm: AcpiPm;
  readonly pci: PciHost;
  readonly virtio: readonly VirtioPci[];
  /** Devices with deadlines, on processor 0's time. */
  readonly timed: readonly TimedDevice[];
  readonly #bus: SystemBus;
  /** What the devices were when they were last saved or restored, but for those that have changed since. */
  #saved: Readonly<Record<string, Plain>> | undefined;
  /** Accesses to devices until then. */
  #accesses = 0;
  #touched = true;

  constructor(bus: SystemBus, options: BoardOptions) {
    this.#bus = bus;
    const now = () => options.timeOf(options.current());
    const rescheduled = () => options.endRun(options.current());
    this.pic = new I8259Pair((asserted) => {
      for (const apic of this.localApics) apic.setIntr(asserted);
      this.ioApic.setPin(0, asserted);
    });
    this.localApics = Array.from({ length: options.cpus }, (_, index) =>
      this.#localApic(bus, options, index),
    );
    this.ioApic = new IoApic((message) => route(this.localApics, message));
    this.pit = new I8254(
      now,
      (asserted) => {
        if (!this.hpet.replacesLegacy) this.setIrq(TIMER_IRQ, asserted);
      },
      rescheduled,
    );
    this.uart = new Uart16550(COM1, (asserted) => this.setIrq(COM1_IRQ, asserted));
    this.rtc = new Rtc(
      bus.ramBytes,
      options.cpus,
      options.epoch,
      now,
      (asserted) => {
        if (!this.hpet.replacesLegacy) this.setIrq(RTC_IRQ, asserted);
      },
      rescheduled,
    );
    this.hpet = new Hpet({
      now,
      line: (irq, asserted) => this.setIrq(irq, asserted),
      // Each follows its new source from the next edge on.
      legacy: () => {
        for (const irq of [TIMER_IRQ, RTC_IRQ]) this.setIrq(irq, false);
      },
      rescheduled,
    });
    const reset = () => options.reset();
    this.systemControl = new SystemControl(reset);
    this.numericError = new NumericError((asserted) => {
      this.touch();
      this.setIrq(NUMERIC_ERROR_IRQ, asserted);
    });
    this.keyboard = new I8042((asserted) => this.setIrq(KEYBOARD_IRQ, asserted), reset);
    this.pci = new PciHost(reset);
    this.virtio = options.plugged.map((make, i) => {
      const line = pciInterruptLine(i + 1, 0);
      const wires = {
        address: PCI_WINDOW_BASE + (i + 1) * SLOT_MEMORY,
        interruptLine: line,
        message: (address: number, data: number) => route(this.localApics, messageSignalled(address, data)),
        // Slots share lines: one that is pulled by any is asserted.
        pin: () =>
          this.ioApic.setPin(
            line,
            this.virtio.some((each, n) => pciInterruptLine(n + 1, 0) === line && each.pci.pin),
          ),
      };
      const device = new VirtioPci(bus, wires, make);
      this.pci.plug(device.pci);
      return device;
    });
    this.pm = new AcpiPm(
      now,
      (asserted) => this.setIrq(SCI_IRQ, asserted),
      () => options.powerOff(),
      rescheduled,
    );
    this.timed = [this.pit, this.rtc, this.hpet, this.pm];

    bus.addMmio(localApicWindow(this.localApics, options.current));
    for (const device of [this.ioApic, this.hpet, this.pci.ecam]) bus.addMmio(device);
    for (const { pci } of this.virtio) bus.addMmio(pci.memory);
    const exit = new DebugExit((value) => options.exit(value));
    for (const device of [
      ...this.pic.ports,
      ...this.pit.ports,
      ...this.systemControl.ports,
      this.numericError,
      ...this.keyboard.ports,
      this.pci,
      this.pm,
      this.uart,
      this.rtc,
      exit,
    ])
      bus.addPorts(device);
  }

  /** Asserts or deasserts interrupt line 0..23; beyond 15 they are the I/O APIC's alone. */
  setIrq(irq: number, asserted: boolean): void {
    if (irq < 0 || irq >= IO_APIC_PINS)
      throw new RangeError(`no interrupt line ${irq}: there are ${IO_APIC_PINS}`);
    if (irq < 16) this.pic.setIrq(irq, asserted);
    if (irq === TIMER_IRQ) this.ioApic.setPin(2, asserted);
    else if (irq !== 2) this.ioApic.setPin(irq, asserted);
  }

  /** Some device may send what RFLAGS.IF does not hold off. */
  get hasUnmaskable(): boolean {
    return this.ioApic.hasUnmaskable || this.localApics.some((apic) => apic.hasUnmaskable);
  }

  /** The state in which PC firmware hands the machine to a kernel. */
  initialiseAsFirmware(): void {
    // The timer first: the edge of its output is forgotten when the 8259s are initialised.
    this.pit.initialiseAsFirmware();
    this.pic.initialiseAsFirmware();
    this.localApics[0].initialiseAsFirmware();
    this.ioApic.initialiseAsFirmware(ioApicId(this.localApics.length));
  }

  /**
   * Clocks, interrupt lines or the host may change devices now. What changes them otherwise is an access through the bus, a
   * message to a local APIC, or the acknowledgement of an interrupt.
   */
  touch(): void {
    this.#touched = true;
  }

  /** Each device's state. What has not changed is shared with what was saved or restored last. */
  save(): Readonly<Record<string, Plain>> {
    const known = this.#saved;
    const others = known && !this.#othersChanged ? known : this.#saveOthers();
    const localApics = known && !this.#apicsChanged ? known.localApics : saveEach(this.localApics);
    return this.#settle(
      others === known && localApics === known.localApics ? known : { ...others, localApics },
    );
  }

  #saveOthers(): Record<string, Plain> {
    return {
      ...Object.fromEntries(OTHERS.map((name) => [name, this[name].save()])),
      virtio: saveEach(this.virtio),
    };
  }

  /** @param parts what `save` gave; each device trusts its own part. */
  restore(parts: Readonly<Record<string, Plain>>): void {
    const known = this.#saved;
    if (this.#apicsChanged || known?.localApics !== parts.localApics)
      restoreEach(this.localApics, parts.localApics);
    const all = this.#othersChanged;
    if (all || known !== parts) {
      for (const name of OTHERS)
        if (all || known?.[name] !== parts[name]) (this[name] as Saved<Plain>).restore(parts[name]);
      if (all || known?.virtio !== parts.virtio) restoreEach(this.virtio, parts.virtio);
    }
    this.#settle(parts);
  }

  /** Whether all devices are as `parts` says. */
  same(parts: Readonly<Record<string, Plain>>): boolean {
    const known = this.#saved;
    if (
      (this.#apicsChanged || known?.localApics !== parts.localApics) &&
      !equal(saveEach(this.localApics), parts.localApics)
    )
      return false;
    const all = this.#othersChanged;
    if (!all && known === parts) return true;
    for (const name of OTHERS)
      if ((all || known?.[name] !== parts[name]) && !equal(this[name].save(), parts[name])) return false;
    return !(all || known?.virtio !== parts.virtio) || equal(saveEach(this.virtio), parts.virtio);
  }

  get #apicsChanged(): boolean {
    return this.#saved === undefined || this.localApics.some(({ changed }) => changed);
  }

  get #othersChanged(): boolean {
    return this.#saved === undefined || this.#touched || this.#bus.deviceAccesses !== this.#accesses;
  }

  /** The devices are as `parts` says. */
  #settle(parts: Readonly<Record<string, Plain>>): Readonly<Record<string, Plain>> {
    this.#saved = parts;
    this.#accesses = this.#bus.deviceAccesses;
    this.#touched = false;
    for (const apic of this.localApics) apic.changed = false;
    return parts;
  }

  #localApic(bus: SystemBus, options: BoardOptions, index: number): LocalApic {
    return new LocalApic({
      now: () => options.timeOf(index),
      send: (message) => route(this.localApics, message),
      broadcast: (mode, vector, level, self) => {
        this.localApics.forEach((apic, i) => {
          if (apic.present && (self || i !== index)) apic.accept(mode, vector, level);
        });
      },
      endOfInterrupt: (vector) => {
        this.touch();
        this.ioApic.endOfInterrupt(vector);
      },
      acknowledgeExternal: () => {
        this.touch();
        return this.pic.acknowledge();
      },
      kick: () => options.endRun(index),
      takeInit: () => options.takeInit(index),
      checkBase: (base) => {
        // RAM answers before the local APIC here; a processor would have it the other way round.
        if (base >= bus.ramBytes && (base + PAGE <= IO_APIC_BASE || base >= IO_APIC_BASE + PAGE)) return;
        throw new UnimplementedInstruction(0n, new Uint8Array([0x0f, 0x30]));
      },
    });
  }
}

/** Whether two states are the same. */
function equal(a: Plain, b: Plain): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return Object.is(a, b);
  if (ArrayBuffer.isView(a) || Array.isArray(a)) {
    const [x, y] = [a, b] as ArrayLike<number>[];
    if (x.length !== y.length) return false;
    for (let i = 0; i < x.length; i++) if (!Object.is(x[i], y[i])) return false;
    return true;
  }
  const [x, y] = [a, b] as Readonly<Record<string, Plain>>[];
  const names = Object.keys(x);
  return (
    names.length === Object.keys(y).length && names.every((name) => name in y && equal(x[name], y[name]))
  );
}

/** The states of devices of one kind, by number. */
function saveEach(devices: readonly Saved<Plain>[]): Plain {
  return Object.fromEntries(devices.map((device, i) => [i, device.save()]));
}

function restoreEach(devices: readonly Saved<Plain>[], states: Plain): void {
  for (const [i, device] of devices.entries()) device.restore((states as Readonly<Record<string, Plain>>)[i]);
}

/** Each processor sees its own local APIC at the place where it has put it. */
function localApicWindow(apics: readonly LocalApic[], current: () => number): MmioDevice {
  return {
    get base() {
      return apics[current()].base;
    },
    get size() {
      return apics[current()].base < 0 ? 0 : 0x1000;
    },
    knowsChanges: true,
    read: (offset, size) => apics[current()].read(offset, size),
    write: (offset, size, value) => apics[current()].write(offset, size, value),
  };
}
