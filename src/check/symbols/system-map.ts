/**
 * Symbols as text: a line each of address, type letter and name, as nm(1) prints them, Linux writes them to `System.map`
 * and shows them in /proc/kallsyms (there with a module's name in brackets).
 */
import type { Name } from './name-table.ts';
import { SymbolError } from './symbol-error.ts';

const LINE = /^([0-9a-fA-F]{1,16})[ \t]+([A-Za-z?-])[ \t]+(\S+)(?:[ \t]+\[(\S+)\])?$/;
/** Types without a place: undefined, constant, debugging. */
const NO_PLACE = /[UwvaA?Nn-]/;
/** A name reaches no further than this: what lies there has no name in the file. */
const REACH = 1n << 20n;
const MAX_SHOWN = 60;

export interface MapNames {
  readonly names: readonly Name[];
  readonly constants: readonly Name[];
}

/** A line of such a file. */
export interface MapSymbol {
  readonly address: bigint;
  /** The letter. */
  readonly type: string;
  readonly name: string;
}

/** Symbols as names of places, and those of no place. */
export function mapNames(symbols: readonly MapSymbol[]): MapNames {
  const names: Name[] = [];
  const constants: Name[] = [];
  for (const { address, type, name } of symbols) {
    const rank = (/[A-Z]/.test(type) ? 1 : 0) + (/[tTwWvViI]/.test(type) ? 2 : 0);
    const entry = { name, address, size: 0n, limit: address + REACH, rank };
    (NO_PLACE.test(type) ? constants : names).push(entry);
  }
  return { names, constants };
}

/** The first line with something on it is one of such a file. */
export function isSystemMap(text: string): boolean {
  const start = text.search(/\S/);
  if (start < 0) return false;
  const end = text.indexOf('\n', start);
  return LINE.test(text.slice(start, end < 0 ? text.length : end).trimEnd());
}

/** Reads the lines. Throws SymbolError with the number of the first that is no such line. */
export function readSystemMap(text: string): MapNames {
  const symbols: MapSymbol[] = [];
  let number = 0;
  for (const raw of text.split('\n')) {
    number++;
    const line = raw.trim();
    if (line === '') continue;
    const match = LINE.exec(line);
    if (!match)
      throw new SymbolError(
        'System.map',
        `line ${number}: ${JSON.stringify(line.slice(0, MAX_SHOWN))}, expected an address, a type letter and a name`,
      );
    const [, digits, type, symbol, module] = match;
    const name = module === undefined ? symbol : `${symbol} [${module}]`;
    symbols.push({ address: BigInt(`0x${digits}`), type, name });
  }
  const { names, constants } = mapNames(symbols);
  if (names.length > 1 && names.every(({ address }) => address === 0n))
    throw new SymbolError(
      'System.map',
      'every address is 0, expected real ones (/proc/kallsyms shows them to root, with kernel.kptr_restrict=0)',
    );
  return { names, constants };
}
