/**
 * The instruction trace of `espfix run --trace`: a line an instruction, with the processor, RIP, bytes,
 * disassembly and the registers it changed; and a line that begins with `#` for each event delivered.
 *
 *     0 ffffffff80001234  48 89 c3                mov rbx,rax                     rbx=0000000000000007
 *     # 0 vector=14 error=0x2 source=exception
 */
import { Decoder, Formatter, FormatterSyntax } from 'iced-x86';
import type { Cpu } from '../arch/cpu.ts';
import { readFlags } from '../isa/flags.ts';
import { CS } from '../isa/state.ts';
import type { Machine } from '../machine/machine.ts';
import { TextFile } from './files.ts';

const GENERAL = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'];
const CONTROL = ['cr0', 'cr2', 'cr3', 'cr4', 'efer'] as const;
const MAX_LENGTH = 15;

/** What is shown of a processor, as it stood after the previous instruction. */
interface Shown {
  readonly gpr: BigUint64Array;
  readonly selectors: Uint16Array;
  readonly control: bigint[];
  flags: bigint;
  /** For which code segment the next instruction is to be disassembled, if it is at `rip`. */
  rip: bigint;
  codeSize: 16 | 32 | 64;
  base: bigint;
}

const codeBase = (cpu: Cpu) => (cpu.mode64 ? 0n : cpu.segBase[CS]);

function look(cpu: Cpu): Shown {
  return {
    gpr: cpu.gpr.slice(),
    selectors: cpu.segSelector.slice(),
    control: CONTROL.map((name) => cpu[name]),
    flags: readFlags(cpu),
    rip: cpu.rip,
    codeSize: cpu.codeSize,
    base: codeBase(cpu),
  };
}

const hex = (value: bigint, digits: number) => value.toString(16).padStart(digits, '0');

/** The registers that differ, as ` name=value` each; brings `shown` up to date. */
function changes(cpu: Cpu, shown: Shown): string {
  let text = '';
  for (let i = 0; i < 16; i++) {
    const value = cpu.gpr[i];
    if (value === shown.gpr[i]) continue;
    shown.gpr[i] = value;
    text += ` ${GENERAL[i] ?? `r${i}`}=${hex(value, 16)}`;
  }
  const flags = readFlags(cpu);
  if (flags !== shown.flags) text += ` rflags=${hex(flags, 8)}`;
  shown.flags = flags;
  for (let i = 0; i < 8; i++) {
    const value = cpu.segSelector[i];
    if (value === shown.selectors[i]) continue;
    shown.selectors[i] = value;
    text += ` ${SEGMENTS[i]}=${value.toString(16).padStart(4, '0')}`;
  }
  for (const [i, name] of CONTROL.entries()) {
    const value = cpu[name];
    if (value === shown.control[i]) continue;
    shown.control[i] = value;
    text += ` ${name}=${hex(value, 16)}`;
  }
  shown.rip = cpu.rip;
  shown.codeSize = cpu.codeSize;
  shown.base = codeBase(cpu);
  return text;
}

/** Up to 15 bytes at a linear address; fewer where a page ends that the next does not follow. */
function codeBytes(machine: Machine, linear: bigint, cpu: number): Uint8Array {
  const inPage = 0x1000 - Number(linear & 0xfffn);
  for (const size of [MAX_LENGTH, Math.min(MAX_LENGTH, inPage)]) {
    try {
      return machine.readMemory(linear, size, cpu);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return new Uint8Array();
}

/** Starts tracing into `file`; the result ends it. Throws a UserError if the file cannot be written. */
export function attachTrace(machine: Machine, file: string): { close(): void } {
  const out = new TextFile(file);
  const formatter = new Formatter(FormatterSyntax.Intel);
  const shown = machine.cpus.map(look);

  const stopEvents = machine.on('deliver', (cpu, vector, error, source) => {
    const code = error === undefined ? '' : ` error=0x${error.toString(16)}`;
    out.write(`# ${cpu} vector=${vector}${code} source=${source}\n`);
    return false;
  });
  machine.trace = (index, rip) => {
    const cpu = machine.cpus[index];
    const before = shown[index];
    // Between two instructions in a row nothing else has changed the code segment.
    const known = before.rip === rip;
    const codeSize = known ? before.codeSize : cpu.codeSize;
    const base = known ? before.base : codeBase(cpu);
    const linear = codeSize === 64 ? rip : (base + rip) & 0xffff_ffffn;
    const bytes = codeBytes(machine, linear, index);
    const decoder = new Decoder(codeSize, bytes, 0);
    decoder.ip = rip;
    const instruction = decoder.decode();
    const length = instruction.length;
    const text = bytes.length === 0 ? '(not mapped any more)' : formatter.format(instruction);
    instruction.free();
    decoder.free();
    const dump = Array.from(bytes.subarray(0, length), (byte) => byte.toString(16).padStart(2, '0')).join(
      ' ',
    );
    const line = `${index} ${hex(rip, 16)}  ${dump.padEnd(24)} ${text.padEnd(36)}${changes(cpu, before)}`;
    out.write(`${line.trimEnd()}\n`);
  };
  return {
    close() {
      machine.trace = undefined;
      stopEvents();
      formatter.free();
      out.close();
    },
  };
}
