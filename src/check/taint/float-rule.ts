/**
 * SSE and AVX arithmetic of floating-point numbers: a result may depend on every bit of every operand, and all of the destination is
 * taken to. Of MXCSR, which it may depend on and changes, nothing is known to be secret.
 */
import { anyOf, type Shadow, uniform, union, within } from '../../engine/taint/shadow.ts';
import { taintedBits, vectorPart } from '../../engine/taint/taint-builder.ts';
import { STATUS_FLAGS } from '../../isa/flags.ts';
import { ones } from '../../isa/integers.ts';
import type { SystemRule } from './system-step.ts';

export const floatRule: SystemRule = (x) => {
  const found: (Shadow | null)[] = [];
  const linears: bigint[] = [];
  for (const [n, operand] of x.instruction.operands.entries()) {
    if (operand.kind === 'register') found.push(x.read({ kind: 'register', index: operand.index }));
    else if (operand.kind === 'memory') {
      linears[n] = taintedBits(x.b.linear(n)).bits;
      for (let at = 0; at < operand.width; at += 64)
        found.push(x.load(linears[n] + BigInt(at / 8), Math.min(operand.width - at, 64) / 8));
    } else if (operand.kind === 'mm' || operand.kind === 'xmm' || operand.kind === 'ymm')
      for (let part = 0; part < operand.width; part += 128)
        found.push(x.read({ kind: 'vector', part: vectorPart(operand.kind, operand.index, part / 128) }));
  }
  const label = anyOf(...found);
  const all = (mask: bigint) => (label === 0 ? null : uniform(mask, label));
  if (/^v?u?comis/.test(x.instruction.mnemonic)) {
    const kept = within(x.read({ kind: 'flags' }), ~STATUS_FLAGS & ones(64));
    x.set({ kind: 'flags' }, union(kept, all(STATUS_FLAGS)));
    return;
  }
  const [to] = x.instruction.operands;
  switch (to?.kind) {
    case 'register':
      x.set({ kind: 'register', index: to.index }, all(ones(64)));
      break;
    case 'memory':
      for (let at = 0; at < to.width; at += 64) {
        const width = Math.min(to.width - at, 64);
        const place = { kind: 'memory', linear: linears[0] + BigInt(at / 8), bytes: width / 8 } as const;
        x.set(place, all(ones(width)));
      }
      break;
    case 'mm':
      x.set({ kind: 'vector', part: vectorPart('mm', to.index) }, all(ones(64)));
      break;
    case 'xmm':
    case 'ymm': {
      for (let part = 0; part < to.width; part += 128)
        x.set({ kind: 'vector', part: vectorPart(to.kind, to.index, part / 128) }, all(ones(128)));
      // With VEX, what is above is zero.
      if (to.kind === 'xmm' && x.b.form.vex)
        x.set({ kind: 'vector', part: vectorPart('ymm', to.index, 1) }, null);
      break;
    }
    default:
      x.giveUp('no rule for its destination');
  }
};
