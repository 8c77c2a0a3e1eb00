/** What cannot be read of a file of symbols. The message is one line: the part of the file, what is there, and what was expected. */
export class SymbolError extends Error {
  /** The part of the file: a section's name, `ELF`, or `System.map`. */
  readonly section: string;

  constructor(section: string, problem: string) {
    super(`${section}: ${problem}`);
    this.name = 'SymbolError';
    this.section = section;
  }
}
