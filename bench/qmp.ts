/** QEMU's machine protocol (QEMU Machine Protocol Specification): JSON commands and answers, a line each. */
import type { Readable, Writable } from 'node:stream';

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** One command at a time. */
export class Qmp {
  readonly #output: Writable;
  #received = '';
  #waiting: ((answer: Answer) => void) | undefined;
  #greeted: () => void = () => {};

  private constructor(input: Readable, output: Writable) {
    this.#output = output;
    input.setEncoding('utf8');
    input.on('data', (data: string) => this.#receive(data));
    const over = () => this.#answer({ error: { desc: 'QEMU is gone' } });
    input.on('close', over);
    output.on('error', over);
  }

  /** Waits for the greeting and leaves capabilities negotiation. */
  static async start(input: Readable, output: Writable): Promise<Qmp> {
    const qmp = new Qmp(input, output);
    await new Promise<void>((resolve) => {
      qmp.#greeted = resolve;
    });
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  /** Resolves with what the command returns; rejects with QEMU's words. */
  async execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting = resolve;
      this.#output.write(`${JSON.stringify({ execute: command, ...(args ? { arguments: args } : {}) })}\n`);
    });
    if (answer.error) throw new Error(`QEMU: ${command}: ${answer.error.desc}`);
    return answer.return;
  }

  /** A command of the human monitor, which says nothing when it succeeds. */
  async monitor(line: string): Promise<void> {
    const said = await this.execute('human-monitor-command', { 'command-line': line });
    if (said !== '') throw new Error(`QEMU: ${line}: ${String(said).trim()}`);
  }

  #receive(data: string): void {
    const lines = (this.#received + data).split('\n');
    this.#received = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() === '') continue;
      const message = JSON.parse(line) as Answer & { readonly QMP?: unknown };
      if (message.QMP !== undefined) this.#greeted();
      // What is neither is an event: nobody here waits for one.
      else if (message.return !== undefined || message.error !== undefined) this.#answer(message);
    }
  }

  #answer(answer: Answer): void {
    this.#waiting?.(answer);
    this.#waiting = undefined;
    this.#greeted();
  }
}
