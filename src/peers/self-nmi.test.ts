/**
 * Faults of the gallery that an NMI at one instruction shows, shown on every peer: the kernel sends itself the NMI there. Each
 * machine comes to the same bad end, and the sound kernel survives the same NMI on each.
 *
 * Not provoked:
 * - `cve-2015-3291`: the NMI is lost, and nothing in the report depends on one that no task waits for;
 * - `swapgs-by-cs-mc`: no store makes a machine check;
 * - `cve-2018-8897`: it takes a breakpoint of user mode's, not an NMI, and peers do not hold #DB off;
 * - what needs several processors at given instructions.
 */
import { describe, expect, it } from 'vitest';
import { buildImage, type KernelImage } from '../kernel/image.ts';
import type { SelfNmi } from '../kernel/self-nmi.ts';
import { type GalleryName, gallery, type ImageName } from '../kernel/variants/gallery/index.ts';
import { Machine } from '../machine/machine.ts';
import { availablePeers } from './index.ts';
import type { Peer } from './peer.ts';

const LIMIT = 8_000_000;

interface Provoked {
  readonly name: GalleryName;
  readonly nmis: readonly SelfNmi[];
  /** How the kernel ends on our machine. */
  readonly end: RegExp;
  /** Peers on which it does not. */
  readonly hidden?: readonly Peer['name'][];
}

const provoked: readonly Provoked[] = [
  { name: 'swapgs-by-cs-nmi', nmis: [{ at: 'iretq.user' }], end: /^oops vector=8 / },
  { name: 'nmi-without-ist', nmis: [{ at: 'iretq.espfix' }], end: /^oops:gp$/ },
  { name: 'nmi-without-ist', nmis: [{ at: 'on_ministack' }], end: /^oops vector=8 / },
  { name: 'cve-2015-3290', nmis: [{ at: 'iretq.espfix' }], end: /^oops vector=8 / },
  { name: 'cve-2015-3290', nmis: [{ at: 'on_ministack' }], end: /^oops vector=8 / },
  {
    name: 'cve-2015-5157',
    nmis: [{ at: 'vector.11', isEntry: true }],
    end: /^fault:np:0bb1$/,
    // An IRET that faults leaves NMIs blocked there; SDM vol. 3A 6.7.1 says that it unblocks them. Bochs agrees.
    hidden: ['qemu'],
  },
  {
    name: 'iret-in-nmi',
    nmis: [
      { at: 'vector.128', isEntry: true },
      { at: 'handle_event', isEntry: true, once: true },
    ],
    end: /^oops vector=8 /,
  },
];

function imageOf(name: ImageName, { name: like, nmis }: Provoked): KernelImage {
  const entry = gallery.find((each) => each.name === like);
  let cases = 0;
  return buildImage(name, {
    cpus: 1,
    only: (c) => entry?.shows(c) === true && cases++ === 0,
    casesOf: like,
    selfNmis: nmis,
  });
}

/** The first oops, in full, or else how the case ended. */
function endOf(serial: string): string {
  for (const line of serial.split(/\r?\n/)) {
    if (line.startsWith('oops ')) return line;
    const result = /^case .*result=(\S+) /.exec(line);
    if (result) return result[1];
  }
  return `nothing but ${JSON.stringify(serial)}`;
}

function onOurs({ elf }: KernelImage): { serial: string; nmis: number } {
  const machine = Machine.create({ cpus: 1 });
  machine.boot(elf);
  let serial = '';
  let nmis = 0;
  machine.serial.onOutput = (byte) => {
    serial += String.fromCharCode(byte);
  };
  machine.on('deliver', (_cpu, vector) => {
    if (vector === 2) nmis++;
    return false;
  });
  machine.run({ maxInstructions: LIMIT });
  return { serial, nmis };
}

const rows = provoked.map((each) => ({ each, at: each.nmis.map(({ at }) => at).join(' and ') }));

describe.each(rows)('$each.name, NMI at $at', ({ each }) => {
  const broken = imageOf(each.name, each);
  const sound = imageOf('linux', each);
  const ours = endOf(onOurs(broken).serial);
  const survives = onOurs(sound);

  it('ends badly on our machine, where the sound kernel survives', () => {
    expect(ours).toMatch(each.end);
    expect(endOf(survives.serial)).toMatch(/^own$|^fault:np:0034$/);
    expect(survives.nmis).toBeGreaterThanOrEqual(each.nmis.length);
  });

  it.each(availablePeers())(
    '$name: just so',
    async (peer) => {
      const until = (line: string) => line.startsWith('end ') || line.startsWith('oops ');
      const bad = await peer.run(broken.elf, { until, timeout: 60 });
      const good = await peer.run(sound.elf, { until, timeout: 60 });
      if (each.hidden?.includes(peer.name)) expect(endOf(bad.serial)).toBe(endOf(good.serial));
      else expect(endOf(bad.serial)).toBe(ours);
      expect(endOf(good.serial)).toBe(endOf(survives.serial));
    },
    130_000,
  );
});

describe('an NMI that the kernel sends itself', () => {
  it('is refused at a label that there is not', () => {
    expect(() => buildImage('linux', { cpus: 1, only: () => false, selfNmis: [{ at: 'nowhere' }] })).toThrow(
      'selfNmis: linux has no nowhere',
    );
  });

  it.each([{ at: 'iretq.user' }, { at: 'iretq.user', once: true }])(
    'comes at that very instruction: %o',
    (nmi) => {
      const image = buildImage('linux', { cpus: 1, only: () => false, selfNmis: [nmi] });
      const machine = Machine.create({ cpus: 1 });
      machine.boot(image.elf);
      machine.serial.onOutput = () => {};
      const places: (bigint | undefined)[] = [];
      machine.on('deliver', (cpu, vector) => {
        if (vector === 2) places.push(machine.cpus[cpu].rip);
        return false;
      });
      machine.run({ maxInstructions: LIMIT });
      expect(new Set(places)).toEqual(new Set([image.symbols.get('iretq.user')]));
      if (nmi.once) expect(places).toHaveLength(1);
      else expect(places.length).toBeGreaterThan(1);
    },
  );
});
