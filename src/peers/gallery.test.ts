/** Faults of the gallery that need no event from outside show on every peer, as far as the peer itself is right. */
import { describe, expect, it } from 'vitest';
import { buildImage } from '../kernel/image.ts';
import { parseReport, ReportError, verdictOf } from '../kernel/report.ts';
import { type GalleryName, gallery } from '../kernel/variants/gallery/index.ts';
import { availablePeers } from './index.ts';
import type { Peer } from './peer.ts';

/** Faults that a peer hides: it does not raise what processors do. */
const hidden: Record<Peer['name'], readonly GalleryName[]> = {
  // #NP instead of #SS for a stack segment that is not present, and a SYSRET that does not look at RCX.
  qemu: ['cve-2014-9322', 'cve-2012-0217'],
  // #NP as well.
  bochs: ['cve-2014-9322'],
};

/** A report that breaks off, or that one oops broke into another of, tells of a kernel that died. */
function verdict(text: string): string {
  try {
    return verdictOf(parseReport(text));
  } catch (error) {
    if (error instanceof ReportError) return 'unsafe';
    throw error;
  }
}

const plain = gallery.filter(({ events }) => events.length === 0);

describe.each(availablePeers())('$version', (peer) => {
  it.each(plain)(
    '$name',
    async ({ name, cpus, shows }) => {
      const { elf } = buildImage(name, { cpus, only: shows });
      const { serial, ended } = await peer.run(elf, {
        cpus,
        until: (line) => line.startsWith('end '),
        timeout: 60,
      });
      expect(ended).not.toBe('timeout');
      expect(serial).toContain(`espfix ${name} cpus=${cpus}`);
      if (hidden[peer.name].includes(name)) expect(verdict(serial)).toBe('safe');
      else expect(verdict(serial)).not.toBe('safe');
    },
    90_000,
  );
});
