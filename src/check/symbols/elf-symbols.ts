/** The symbol table of an ELF file. System V ABI (gABI) chapter 4 "Object Files", "Symbol Table". */
import { type ElfSections, SHF_ALLOC, SHT_SYMTAB, stringAt } from '../../machine/boot/elf-sections.ts';
import type { Name } from './name-table.ts';
import { SymbolError } from './symbol-error.ts';

const STT_NOTYPE = 0;
const STT_OBJECT = 1;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;
const STB_LOCAL = 0;
const SHN_UNDEF = 0;
/** From here on numbers name no section: SHN_ABS (a constant), SHN_COMMON and others. */
const SHN_LORESERVE = 0xff00;
const SHN_ABS = 0xfff1;

export interface ElfNames {
  /** Names of places: functions, labels and data of sections that are loaded. */
  readonly names: readonly Name[];
  /** Constants that the linker knows by name, which are no places. */
  readonly constants: readonly Name[];
}

/** Reads `.symtab`; no names where the file has none. Throws SymbolError. */
export function readElfNames({ bits, sections }: ElfSections): ElfNames {
  const names: Name[] = [];
  const constants: Name[] = [];
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  if (!table) return { names, constants };
  const entry = bits === 32 ? 16 : 24;
  if (table.entrySize !== BigInt(entry))
    throw new SymbolError(
      table.name,
      `entries of ${table.entrySize} bytes, expected ${entry} of ${bits} bits`,
    );
  if (table.bytes.length % entry !== 0)
    throw new SymbolError(table.name, `${table.bytes.length} bytes, expected a multiple of ${entry}`);
  const strings = sections[table.link];
  if (!strings)
    throw new SymbolError(
      table.name,
      `strings in section ${table.link}, expected one of ${sections.length} sections`,
    );
  const { bytes } = table;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at += entry) {
    const nameAt = view.getUint32(at, true);
    const info = view.getUint8(at + (bits === 32 ? 12 : 4));
    const index = view.getUint16(at + (bits === 32 ? 14 : 6), true);
    const type = info & 15;
    const known = type === STT_NOTYPE || type === STT_OBJECT || type === STT_FUNC || type === STT_GNU_IFUNC;
    if (!known || index === SHN_UNDEF || (index >= SHN_LORESERVE && index !== SHN_ABS)) continue;
    if (nameAt >= strings.bytes.length)
      throw new SymbolError(
        strings.name,
        `name at offset ${nameAt} of symbol ${at / entry}, expected below ${strings.bytes.length}`,
      );
    const name = stringAt(strings.bytes, nameAt);
    if (name === '') continue;
    const address = bits === 32 ? BigInt(view.getUint32(at + 4, true)) : view.getBigUint64(at + 8, true);
    const size = bits === 32 ? BigInt(view.getUint32(at + 8, true)) : view.getBigUint64(at + 16, true);
    const rank = (info >> 4 === STB_LOCAL ? 0 : 1) + (type === STT_NOTYPE ? 0 : 2);
    if (index === SHN_ABS) {
      constants.push({ name, address, size, limit: address, rank });
      continue;
    }
    const section = sections[index];
    if (!section)
      throw new SymbolError(
        table.name,
        `${name} in section ${index}, expected one of ${sections.length} sections`,
      );
    if ((section.flags & SHF_ALLOC) === 0n) continue;
    const limit = section.address + section.size;
    // A size beyond its section is no more than what there is of it.
    const room = limit > address ? limit - address : 0n;
    names.push({ name, address, size: size < room ? size : room > 0n && size > 0n ? room : 0n, limit, rank });
  }
  return { names, constants };
}
