/**
 * What a return costs in kernel instructions: counted one by one on the machine, from the label `return_to_user`
 * up to and including the IRET that enters user mode.
 */
import { CS, SS } from '../isa/state.ts';
import { buildImage, type CaseInfo } from '../kernel/image.ts';
import type { VariantName } from '../kernel/variants/index.ts';
import { Machine } from '../machine/machine.ts';

/** Instructions from `return_to_user` to user mode. Undefined where the variant never gets there. */
export interface ReturnLength {
  /** To 64-bit or 32-bit code on a flat stack. */
  readonly ordinary: number | undefined;
  /** To a stack segment with B = 0, from which IRET would take SP only. */
  readonly stack16: number | undefined;
}

const ATTRIBUTE_L = 0x2000;
const ATTRIBUTE_DB = 0x4000;
/** INT 0x80, whose return path has no more to do than the return itself. */
const SYSTEM_CALL = 0x80;
/** Instructions after which boot has surely reached user mode, and longer than any return. */
const BOOT_LIMIT = 500_000_000;
const RETURN_LIMIT = 10_000;

const wanted = (c: CaseInfo) =>
  c.path === 'int80' &&
  ((c.cs === 'cs32-gdt' && c.ss === 'flat') || (c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt'));

/** Boots the variant on one processor and counts its returns from INT 0x80. */
export function measureReturns(variant: VariantName): ReturnLength {
  const image = buildImage(variant, { cpus: 1, only: wanted });
  const start = image.symbols.get('return_to_user');
  if (start === undefined) throw new Error(`the image of ${variant} has no label return_to_user`);
  const machine = Machine.create();
  machine.boot(image.elf);
  const [cpu] = machine.cpus;

  let entered = false;
  machine.on('deliver', (_cpu, vector, _error, source) => {
    if (vector !== SYSTEM_CALL || source !== 'software' || cpu.cpl !== 3) return false;
    entered = true;
    machine.stop();
    return false;
  });

  const lengths: { ordinary: number[]; stack16: number[] } = { ordinary: [], stack16: [] };
  for (;;) {
    entered = false;
    const stop = machine.run({ maxInstructions: BOOT_LIMIT });
    if (!entered) {
      if (stop.reason === 'unimplemented')
        throw new Error(`${variant}: unimplemented instruction at 0x${stop.rip.toString(16)}`);
      break;
    }
    let counted = 0;
    let counting = false;
    for (let i = 0; i < RETURN_LIMIT; i++) {
      if (cpu.cpl === 0 && cpu.rip === start) counting = true;
      if (counting) counted++;
      if (machine.step().reason !== 'limit') break;
      if (counting && cpu.cpl === 3) {
        const narrow =
          (cpu.segAttributes[SS] & ATTRIBUTE_DB) === 0 && (cpu.segAttributes[CS] & ATTRIBUTE_L) === 0;
        (narrow ? lengths.stack16 : lengths.ordinary).push(counted);
        break;
      }
    }
  }
  return { ordinary: usual(lengths.ordinary), stack16: usual(lengths.stack16) };
}

/** The most frequent value, the smallest of several: a return that a first use lengthens is not the usual one. */
function usual(values: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  let best: number | undefined;
  for (const [value, count] of counts) {
    const bestCount = best === undefined ? 0 : (counts.get(best) ?? 0);
    if (best === undefined || count > bestCount || (count === bestCount && value < best)) best = value;
  }
  return best;
}
