/**
 * The journal of a check: JSON lines, the first of which says what is checked and how; each other one is the result of a piece of
 * work. A line is on the disk before the next is begun, so what a killed process leaves is whole lines and at most one
 * that is cut short, which is dropped.
 */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { decodeData, encodeData } from './data-codec.ts';
import { fileError, UserError } from './failure.ts';

const FORMAT = 'espfix-journal';
const VERSION = 1;

/** What must be the same for results to be worth the same: each value under the words that name it. */
export type JournalKey = Readonly<Record<string, string>>;

export class Journal {
  readonly file: string;
  /** Results by the names of their pieces of work. */
  readonly results = new Map<string, unknown>();
  readonly #descriptor: number;

  private constructor(file: string, descriptor: number) {
    this.file = file;
    this.#descriptor = descriptor;
  }

  /** Begins a journal; throws a UserError if the file exists or cannot be written. */
  static create(file: string, key: JournalKey): Journal {
    let journal: Journal;
    try {
      journal = new Journal(file, openSync(file, 'wx'));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
        throw new UserError(`--journal ${file}: the file exists; --resume goes on with a journal`);
      throw fileError(file, error);
    }
    journal.#append(encodeData({ format: FORMAT, version: VERSION, key }));
    return journal;
  }

  /** Goes on with a journal; throws a UserError if it is damaged, or of another check than `key` says. */
  static resume(file: string, key: JournalKey): Journal {
    let text: string;
    let descriptor: number;
    try {
      text = readFileSync(file, 'utf8');
      descriptor = openSync(file, 'r+');
    } catch (error) {
      throw fileError(file, error);
    }
    const journal = new Journal(file, descriptor);
    try {
      journal.#read(text, key);
    } catch (error) {
      journal.close();
      throw error;
    }
    return journal;
  }

  #read(text: string, key: JournalKey): void {
    const { file } = this;
    const end = text.lastIndexOf('\n') + 1;
    const lines = text.slice(0, end).split('\n').slice(0, -1);
    const records = lines.map((line, i): unknown => {
      try {
        return decodeData(line);
      } catch {
        throw new UserError(`${file}: line ${i + 1} is damaged, expected JSON`);
      }
    });
    const head = records[0] as { format?: unknown; version?: unknown; key?: JournalKey } | undefined;
    if (typeof head !== 'object' || head?.format !== FORMAT)
      throw new UserError(`${file}: expected a journal of espfix check`);
    if (head.version !== VERSION)
      throw new UserError(`${file}: a journal of format ${head.version}, expected ${VERSION}`);
    const was = head.key ?? {};
    for (const name of new Set([...Object.keys(key), ...Object.keys(was)]))
      if (was[name] !== key[name])
        throw new UserError(
          `${file}: a journal of another check: its ${name} is ${was[name] ?? 'not given'}, not ${key[name] ?? 'given'}`,
        );
    for (const [i, record] of records.entries()) {
      if (i === 0) continue;
      const { task, result } = record as { task?: unknown; result?: unknown };
      if (typeof task !== 'string' || result === undefined)
        throw new UserError(`${file}: line ${i + 1} is damaged, expected a result`);
      this.results.set(task, result);
    }
    ftruncateSync(this.#descriptor, new TextEncoder().encode(text.slice(0, end)).length);
  }

  /** Keeps a result; it is on the disk when this returns. */
  add(task: string, result: unknown): void {
    this.#append(encodeData({ task, result }));
    this.results.set(task, result);
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #append(line: string): void {
    const bytes = new TextEncoder().encode(`${line}\n`);
    try {
      // At the end: a resumed journal is not opened for appending, so that its last line could be cut off.
      const from = this.#size();
      for (let at = 0; at < bytes.length; )
        at += writeSync(this.#descriptor, bytes, at, bytes.length - at, from + at);
      fsyncSync(this.#descriptor);
    } catch (error) {
      throw fileError(this.file, error);
    }
  }

  #size(): number {
    return fstatSync(this.#descriptor).size;
  }
}
