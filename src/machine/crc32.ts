/**
 * CRC-32 (ISO 3309, reflected polynomial EDB88320H), as in ZIP and Ethernet; four bytes at a time, by a table for each
 * (Kounavis and Berry, "A Systematic Approach to Building High Performance, Software-based, CRC Generators", 2005).
 */

const [LAST, THIRD, SECOND, FIRST] = makeTables();

/** The remainders of a byte, and of a byte that one, two and three others follow. */
function makeTables(): readonly Uint32Array[] {
  const first = new Uint32Array(256).map((_, n) => {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb8_8320 : c >>> 1;
    return c;
  });
  const tables = [first];
  for (let i = 1; i < 4; i++) tables.push(tables[i - 1].map((c) => first[c & 0xff] ^ (c >>> 8)));
  return tables;
}

/** The CRC of some bytes, unsigned. */
export function crc32(bytes: Uint8Array): number {
  let c = 0xffff_ffff;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    c ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    c = FIRST[c & 0xff] ^ SECOND[(c >>> 8) & 0xff] ^ THIRD[(c >>> 16) & 0xff] ^ LAST[c >>> 24];
  }
  for (; i < bytes.length; i++) c = LAST[(c ^ bytes[i]) & 0xff] ^ (c >>> 8);
  return (c ^ 0xffff_ffff) >>> 0;
}
