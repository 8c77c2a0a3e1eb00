/**
 * Port input and output. SDM vol. 1 chapter 19 (19.5: IOPL and the I/O permission bit map); vol. 2A "IN",
 * "INS/INSB/INSW/INSD"; vol. 2B "OUT", "OUTS/OUTSB/OUTSW/OUTSD".
 */
import { DF } from '../isa/flags.ts';
import type { Instruction, OperandWidth } from '../isa/instruction.ts';
import { ES, RCX, RDI, RDX, RSI, TR } from '../isa/state.ts';
import type { Cpu, SystemInstruction } from './cpu.ts';
import { matchIoBreakpoint } from './debug.ts';
import { ISA_CYCLE_TICKS } from './durations.ts';
import { gp } from './fault.ts';
import { probeSegmentWrite, readLinear, readSegment, SYSTEM, writeSegment } from './linear.ts';
import { readOperand, readRegister, writeOperand, writeRegister } from './operands.ts';

type PortSize = 1 | 2 | 4;

/** Offset of the I/O map base in a 32- and a 64-bit TSS alike. */
const IO_MAP_BASE = 0x66;
const TSS_32_OR_64 = 0x9;
const TYPE_BUSY = 0x2;

/**
 * Checks that `size` ports from `port` may be used: in protected mode with CPL <= IOPL, else by the bit map of the
 * TSS, which in virtual-8086 mode alone counts. Raises #GP(0).
 */
export function checkIoPermission(cpu: Cpu, port: number, size: PortSize): void {
  if (!cpu.protectedMode) return;
  const iopl = Number((cpu.flagsRest >> 12n) & 3n);
  if (!cpu.virtual8086 && cpu.cpl <= iopl) return;
  const type = cpu.segAttributes[TR] & 0x1f & ~TYPE_BUSY;
  const limit = cpu.segLimit[TR];
  if (cpu.segUsable[TR] === 0 || type !== TSS_32_OR_64 || limit < IO_MAP_BASE + 1) throw gp();
  const tss = cpu.segBase[TR];
  const map = Number(readLinear(cpu, tss + BigInt(IO_MAP_BASE), 2, SYSTEM));
  const at = map + (port >> 3);
  // Two bytes are always read: the ports may span them.
  if (at + 1 > limit) throw gp();
  const bits = Number(readLinear(cpu, tss + BigInt(at), 2, SYSTEM)) >> (port & 7);
  if (bits & ((1 << size) - 1)) throw gp();
}

const portSize = (instruction: Instruction): PortSize =>
  instruction.operandSize === 8 ? 1 : instruction.operandSize === 16 ? 2 : 4;

const portWidth = (size: PortSize): OperandWidth => (size === 1 ? 8 : size === 2 ? 16 : 32);

/** Ports below are those of legacy devices, on the ISA bus. */
const ISA_PORTS_END = 0x400;

function takeTime(cpu: Cpu, port: number): void {
  if (port < ISA_PORTS_END) cpu.engine.spend(ISA_CYCLE_TICKS - 1);
}

function readPort(cpu: Cpu, port: number, size: PortSize): bigint {
  const value = cpu.bus.portRead(port, size) >>> 0;
  takeTime(cpu, port);
  matchIoBreakpoint(cpu, port, size);
  return BigInt(value);
}

function writePort(cpu: Cpu, port: number, size: PortSize, value: bigint): void {
  cpu.bus.portWrite(port, size, Number(value));
  takeTime(cpu, port);
  matchIoBreakpoint(cpu, port, size);
}

/** IN AL/AX/EAX, imm8 or DX. */
export const input: SystemInstruction = (cpu, instruction) => {
  const size = portSize(instruction);
  const port = Number(readOperand(cpu, instruction, 1));
  checkIoPermission(cpu, port, size);
  writeOperand(cpu, instruction, 0, readPort(cpu, port, size));
};

/** OUT imm8 or DX, AL/AX/EAX. */
export const output: SystemInstruction = (cpu, instruction) => {
  const size = portSize(instruction);
  const port = Number(readOperand(cpu, instruction, 0));
  checkIoPermission(cpu, port, size);
  writePort(cpu, port, size, BigInt.asUintN(size * 8, readOperand(cpu, instruction, 1)));
};

/**
 * One iteration of a string instruction: `step`, then the index register moves on by `size`, and with REP the count goes
 * down and RIP back to the instruction while any are left.
 */
function iterate(
  cpu: Cpu,
  instruction: Instruction,
  index: number,
  size: number,
  step: (offset: bigint) => void,
): void {
  const width = instruction.addressSize;
  const repeated = instruction.repeat !== '';
  const count = readRegister(cpu, RCX, width);
  if (repeated && count === 0n) return;
  const offset = readRegister(cpu, index, width);
  step(offset);
  const by = BigInt(cpu.flagsRest & DF ? -size : size);
  writeRegister(cpu, index, width, offset + by);
  if (!repeated) return;
  writeRegister(cpu, RCX, width, count - 1n);
  cpu.repeating = count === 1n ? 0 : 1;
  if (count !== 1n) cpu.rip = BigInt.asUintN(64, cpu.rip - BigInt(instruction.length));
}

/**
 * INS: from port DX to ES:rDI. The port is not read if the store would fault. Permission is checked even where a repeat
 * count is zero (measured on Intel silicon).
 */
export const inputString: SystemInstruction = (cpu, instruction) => {
  const size = portSize(instruction);
  const port = Number(readRegister(cpu, RDX, 16));
  checkIoPermission(cpu, port, size);
  iterate(cpu, instruction, RDI, size, (offset) => {
    probeSegmentWrite(cpu, ES, offset, size);
    writeSegment(cpu, ES, offset, size, readPort(cpu, port, size));
  });
};

/** OUTS: from DS (or the segment that overrides it):rSI to port DX. */
export const outputString: SystemInstruction = (cpu, instruction) => {
  const size = portSize(instruction);
  const port = Number(readRegister(cpu, RDX, 16));
  checkIoPermission(cpu, port, size);
  iterate(cpu, instruction, RSI, size, (offset) => {
    const value = readSegment(cpu, instruction.segment, offset, size);
    writePort(cpu, port, size, BigInt.asUintN(portWidth(size), value));
  });
};
