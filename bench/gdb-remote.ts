/**
 * The client's side of GDB's remote serial protocol, as far as driving a stopped machine takes: GDB manual, appendix E
 * "GDB Remote Serial Protocol" (packets `s`, `c`, `g`, `Z1`, `z1`, each acknowledged).
 */
import type { Socket } from 'node:net';

/** One request at a time; each resolves with the reply's content. */
export class GdbRemote {
  readonly #socket: Socket;
  #received = '';
  #waiting: { resolve: (reply: string) => void; reject: (error: Error) => void } | undefined;
  #error: Error | undefined;

  /** Takes over a connected socket. */
  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay();
    socket.setEncoding('latin1');
    socket.on('data', (data) => this.#receive(data.toString()));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('gdbstub: the connection was closed')));
  }

  /** Executes one instruction. Rejects unless the machine then stops. */
  async step(): Promise<void> {
    await this.#stopped('s');
  }

  /** Runs until a breakpoint. */
  async continue(): Promise<void> {
    await this.#stopped('c');
  }

  /** A hardware breakpoint at a linear address. */
  async setBreakpoint(address: bigint): Promise<void> {
    await this.#expectOk(`Z1,${address.toString(16)},1`);
  }

  async clearBreakpoint(address: bigint): Promise<void> {
    await this.#expectOk(`z1,${address.toString(16)},1`);
  }

  /** All registers, in the target's order and format, as hexadecimal digits. */
  async registers(): Promise<string> {
    const reply = await this.#request('g');
    if (!/^[0-9a-fx]{32,}$/.test(reply)) throw new Error(`gdbstub: g answered ${reply.slice(0, 40)}`);
    return reply;
  }

  close(): void {
    this.#socket.destroy();
  }

  async #stopped(packet: string): Promise<void> {
    const reply = await this.#request(packet);
    // SIGTRAP: a step or a breakpoint.
    if (!/^[ST]05/.test(reply)) throw new Error(`gdbstub: ${packet} answered ${reply.slice(0, 40)}`);
  }

  async #expectOk(packet: string): Promise<void> {
    const reply = await this.#request(packet);
    if (reply !== 'OK') throw new Error(`gdbstub: ${packet} answered ${reply.slice(0, 40) || 'nothing'}`);
  }

  #request(content: string): Promise<string> {
    if (this.#error) return Promise.reject(this.#error);
    let sum = 0;
    for (const character of content) sum += character.charCodeAt(0);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(`$${content}#${(sum & 0xff).toString(16).padStart(2, '0')}`);
    });
  }

  #receive(data: string): void {
    this.#received += data;
    for (;;) {
      const start = this.#received.indexOf('$');
      const end = this.#received.indexOf('#', start);
      if (start < 0 || end < 0 || this.#received.length < end + 3) return;
      const content = this.#received.slice(start + 1, end);
      this.#received = this.#received.slice(end + 3);
      this.#socket.write('+');
      this.#waiting?.resolve(content);
      this.#waiting = undefined;
    }
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#waiting?.reject(this.#error);
    this.#waiting = undefined;
  }
}

/** The RIP in what `registers` of a 64-bit x86 gives: register 16 of 8 bytes each, little-endian. */
export function ripOf(registers: string): bigint {
  const bytes = registers.slice(16 * 16, 17 * 16).match(/../g) ?? [];
  return BigInt(`0x${bytes.reverse().join('')}`);
}
