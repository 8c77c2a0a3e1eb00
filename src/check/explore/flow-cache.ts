/** What code in memory does with registers, found once: most runs execute what others did. */
import type { Machine } from '../../machine/machine.ts';
import { asConditions, type Conditions, eachDword, hold } from './conditions.ts';
import { type InstructionFlow, instructionFlow } from './instruction-flow.ts';

const PAGE = 4096;
/** Bytes of an instruction, at most. */
const LONGEST = 15;
/** The bytes of RDMSR and WRMSR. */
const RDMSR = 0x320f;
const WRMSR = 0x300f;

/** An instruction where it stands in physical memory. */
export interface Code {
  readonly flow: InstructionFlow;
  /** Its bytes, by dwords. */
  readonly conditions: Conditions;
  /** RDMSR or WRMSR. */
  readonly msr: boolean;
}

export class FlowCache {
  readonly #code = new Map<number, Code>();

  /** The 64-bit code at `physical`, not beyond its page; undefined if it is not understood well enough. */
  codeAt(machine: Machine, physical: number): Code | undefined {
    const known = this.#code.get(physical);
    if (known && hold(known.conditions, machine.ramDwords)) return known;
    const size = Math.min(LONGEST, PAGE - (physical % PAGE));
    const bytes = machine.readPhysical(physical, size);
    const flow = instructionFlow(bytes);
    if (flow === undefined || flow.length > size) return undefined;
    const cells = new Map<number, { mask: number; value: number }>();
    eachDword(physical, flow.length, (dword, mask) => {
      cells.set(dword, { mask, value: machine.ramDwords[dword] & mask });
    });
    const opcode = bytes[0] | (bytes[1] << 8);
    const code = { flow, conditions: asConditions(cells), msr: opcode === RDMSR || opcode === WRMSR };
    this.#code.set(physical, code);
    return code;
  }
}
