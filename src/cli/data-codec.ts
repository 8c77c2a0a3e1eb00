/** Plain data with big integers in it, as JSON: a big integer is `{"$":"0x1f"}`. */

/** @param indent spaces, for people; without, it is one line */
export function encodeData(data: unknown, indent?: number): string {
  const encode = (_key: string, value: unknown) => (typeof value === 'bigint' ? { $: signed(value) } : value);
  return JSON.stringify(data, encode, indent);
}

const signed = (value: bigint) => (value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);

/** Throws SyntaxError for what is no JSON. */
export function decodeData(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown) => {
    if (typeof value !== 'object' || value === null || !('$' in value) || Object.keys(value).length !== 1)
      return value;
    const found = /^(-?)(0x[\da-f]+)$/.exec(String(value.$));
    if (!found) return value;
    return found[1] ? -BigInt(found[2]) : BigInt(found[2]);
  });
}
