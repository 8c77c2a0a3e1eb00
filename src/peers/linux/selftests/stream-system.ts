/** A self-test system in a process of its own, with its console as a stream. */
import type { Readable } from 'node:stream';
import type { System } from './console.ts';

/** A machine that has been started. */
export interface Running {
  readonly output: Readable;
  write(text: string): void;
  /** Ends it, and resolves when it is gone. */
  end(): Promise<void>;
}

/**
 * @param start starts the machine; `output` ends with it
 * @param show is told of all that it prints
 */
export async function streamSystem(
  name: string,
  start: () => Promise<Running>,
  show: (piece: string) => void,
): Promise<System> {
  let running = await start();
  return {
    name,
    until(done, seconds) {
      const { output } = running;
      return new Promise((resolve) => {
        const finish = (lost: string | undefined) => {
          clearTimeout(timer);
          output.off('data', take);
          output.off('close', gone);
          resolve(lost);
        };
        const take = (data: Buffer) => {
          const piece = data.toString('latin1');
          show(piece);
          if (done(piece)) finish(undefined);
        };
        const gone = () => finish(`${name} has ended`);
        const timer = setTimeout(finish, seconds * 1000, `no end in ${seconds} s`);
        output.on('data', take);
        output.once('close', gone);
        if (output.closed) gone();
      });
    },
    write: (text) => running.write(text),
    async restart() {
      await running.end();
      running = await start();
    },
    close: () => running.end(),
  };
}
