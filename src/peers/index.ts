/** The peers that are installed here. */
import { bochs } from './bochs.ts';
import type { Peer } from './peer.ts';
import { qemu } from './qemu.ts';

export type { Peer, PeerOptions, PeerRun } from './peer.ts';

/** Looks for each peer's program; those that are missing are left out. */
export function availablePeers(): Peer[] {
  return [qemu(), bochs()].filter((peer) => peer !== undefined);
}
