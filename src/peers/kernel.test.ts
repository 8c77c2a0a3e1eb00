/**
 * Every kernel image prints on every peer, line by line, what it prints on our machine: that is how we know that
 * the kernel is a kernel and does not lean on our machine's faults.
 */
import { describe, expect, it } from 'vitest';
import { buildImage } from '../kernel/image.ts';
import type { CaseLine } from '../kernel/report.ts';
import { variantNames } from '../kernel/variants/index.ts';
import { Machine } from '../machine/machine.ts';
import { corrected, plain } from './compare.fixture.ts';
import { availablePeers } from './index.ts';
import { knownDifferences } from './known-differences.ts';

const CPUS = 2;
const LIMIT = 2_000_000_000;
const peers = availablePeers();

function onOurs(image: Uint8Array): string {
  const machine = Machine.create({ cpus: CPUS });
  machine.boot(image);
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  machine.run({ maxInstructions: LIMIT });
  return text;
}

describe.each(peers)('$version', (peer) => {
  it.each(variantNames)(
    '%s: the same report',
    async (name) => {
      const image = buildImage(name, { cpus: CPUS }).elf;
      const ours = onOurs(image);
      const { serial, ended, log } = await peer.run(image, {
        cpus: CPUS,
        until: (line) => line.startsWith('end '),
        timeout: 120,
      });
      expect(ended, `${peer.name} did not get to the end of the report: ${log}`).toBe('last-line');
      expect(corrected(peer.name, ours, serial)).toEqual(plain(ours));
    },
    300_000,
  );
});

describe('known differences', () => {
  const line: CaseLine = {
    cpu: 0,
    path: 'int80',
    cs: 'cs32-gdt',
    ss: 'ss16-ldt',
    set: 1,
    seen: 1,
    rsp: 0x0300_c0den,
    kernel: 0x0300_0000,
    result: 'own',
    ok: true,
    name: '-',
  };

  it.each(knownDifferences)('$peer: $what: leaves alone what it does not explain', ({ correct }) => {
    for (const other of [
      { ...line, seen: 2 },
      { ...line, rsp: 0x1_0300_c0dfn },
      { ...line, result: 'kernel' as const },
      { ...line, result: 'fault:np:0024' as const },
      { ...line, ok: false },
    ])
      expect(correct(line, other)).toEqual(other);
  });
});
