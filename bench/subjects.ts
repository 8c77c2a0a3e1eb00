/** What is measured: our machine and the peers, each as something that boots an image and times its lines. */
import { Machine } from '../src/machine/machine.ts';
import { availablePeers } from '../src/peers/index.ts';
import { processorTime } from '../src/peers/process.ts';

export interface Subject {
  readonly name: string;
  readonly version: string;
  /** Boots the image and calls back at each line of COM1 with the processor time used, in milliseconds, until it answers true. */
  run(image: Uint8Array, until: (line: string, at: number) => boolean, timeout: number): Promise<void>;
}

/** Guest instructions between two looks at the clock. */
const SLICE = 1_000_000;

const ours: Subject = {
  name: 'espfix',
  version: `espfix in Node ${process.versions.node}`,
  async run(image, until, timeout) {
    const machine = Machine.create({ memory: 64 });
    machine.boot(image);
    let line = '';
    let done = false;
    machine.serial.onOutput = (byte) => {
      if (byte !== 0x0a) {
        line += String.fromCharCode(byte);
        return;
      }
      done ||= until(line, processorTime(process.pid, process.pid));
      line = '';
      if (done) machine.stop();
    };
    const deadline = performance.now() + timeout * 1000;
    while (!done) {
      const stop = machine.run({ maxInstructions: SLICE });
      if (stop.reason !== 'limit' && stop.reason !== 'hook')
        throw new Error(`espfix: the guest ended: ${stop.reason}`);
      if (performance.now() > deadline) throw new Error(`espfix: no result within ${timeout} s`);
    }
  },
};

/** Our machine and the peers that are installed. */
export function subjects(): Subject[] {
  const peers = availablePeers().map(
    (peer): Subject => ({
      name: peer.name,
      version: peer.version,
      async run(image, until, timeout) {
        const result = await peer.run(image, { until, timeout });
        if (result.ended !== 'last-line')
          throw new Error(`${peer.name}: ended by ${result.ended}: ${result.log.slice(-300)}`);
      },
    }),
  );
  return [ours, ...peers];
}
