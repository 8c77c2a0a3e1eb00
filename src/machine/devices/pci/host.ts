/**
 * The PCI host bridge: configuration by ports (mechanism #1) and in memory (ECAM), and the reset control register among
 * its ports. PCI Local Bus Specification 3.0, section 3.2.2.3.2; PCI Express Base Specification, section 7.2.2; 82371SB
 * (PIIX3) data sheet, "RC - reset control register".
 */
import type { MmioDevice, PortDevice, Saved } from '../device.ts';
import {
  CLASS_REVISION,
  COMMAND,
  ConfigurationSpace,
  type PciFunction,
  readRegister,
  VENDOR_ID,
} from './function.ts';
import { ECAM_BASE, ECAM_SIZE } from './layout.ts';

const ADDRESS = 0xcf8;
const DATA = 0xcfc;
const RESET_CONTROL = 0xcf9;
const ENABLE = 0x8000_0000;
/** Bits of CONFIG_ADDRESS that are kept: enable, bus, device, function, register. */
const ADDRESS_KEPT = 0x80ff_fffc;

/** 82G33 memory controller hub: a host bridge that systems know to be of PCI Express. */
const IDENTITY = 0x29c0_8086;
const HOST_BRIDGE_CLASS = 0x0600_0000;

type PciHostState = { readonly address: number; readonly resetControl: number };

export class PciHost implements PortDevice, Saved<PciHostState> {
  readonly port = ADDRESS;
  readonly count = 8;
  readonly width = 4;
  /** Configuration space in memory. */
  readonly ecam: MmioDevice;
  readonly #slots: (PciFunction | undefined)[] = [hostBridge()];
  readonly #reset: () => void;
  #state: PciHostState = { address: 0, resetControl: 0 };

  /** @param reset the guest asks for a reset of the machine. */
  constructor(reset: () => void) {
    this.#reset = reset;
    this.ecam = {
      base: ECAM_BASE,
      size: ECAM_SIZE,
      read: (offset, size) =>
        this.#function(offset >>> 12)?.readConfiguration(offset & 0xfff, size) ?? ones(size),
      write: (offset, size, value) =>
        this.#function(offset >>> 12)?.writeConfiguration(offset & 0xfff, size, value),
    };
  }

  /** Puts a function into the next free slot; returns its number. */
  plug(device: PciFunction): number {
    return this.#slots.push(device) - 1;
  }

  portRead(port: number, size: 1 | 2 | 4): number {
    const { address, resetControl } = this.#state;
    if (port === ADDRESS && size === 4) return address;
    if (port === RESET_CONTROL && size === 1) return resetControl;
    if (port < DATA || (address & ENABLE) === 0) return ones(size);
    const register = (address & 0xfc) | (port & 3);
    return this.#function((address >>> 8) & 0xffff)?.readConfiguration(register, size) ?? ones(size);
  }

  portWrite(port: number, size: 1 | 2 | 4, value: number): void {
    const { address, resetControl } = this.#state;
    if (port === ADDRESS && size === 4) {
      this.#state = { ...this.#state, address: (value & ADDRESS_KEPT) >>> 0 };
      return;
    }
    if (port === RESET_CONTROL && size === 1) {
      this.#state = { ...this.#state, resetControl: value & 6 };
      if (value & ~resetControl & 4) this.#reset();
      return;
    }
    if (port < DATA || (address & ENABLE) === 0) return;
    const register = (address & 0xfc) | (port & 3);
    this.#function((address >>> 8) & 0xffff)?.writeConfiguration(register, size, value);
  }

  save(): PciHostState {
    return this.#state;
  }

  restore(state: PciHostState): void {
    this.#state = state;
  }

  /** The function of a bus, device and function number: each slot has one function. */
  #function(number: number): PciFunction | undefined {
    return (number & 7) === 0 ? this.#slots[number >>> 3] : undefined;
  }
}

/** The bridge's own function in slot 0. Nothing of it can be changed. */
function hostBridge(): PciFunction {
  const COMMAND_ALWAYS = 6;
  const bytes = new ConfigurationSpace()
    .define(VENDOR_ID, 4, IDENTITY)
    .define(COMMAND, 2, COMMAND_ALWAYS)
    .define(CLASS_REVISION, 4, HOST_BRIDGE_CLASS).initial;
  return {
    readConfiguration: (offset, size) => readRegister(bytes, offset, size),
    writeConfiguration() {},
  };
}

function ones(size: 1 | 2 | 4): number {
  return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
}
