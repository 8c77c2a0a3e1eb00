/** Plain data with big integers in it, as one line of JSON: a big integer is `{"$":"0x1f"}`. */

export function encodeData(data: unknown): string {
  return JSON.stringify(data, (_key, value: unknown) =>
    typeof value === 'bigint' ? { $: signed(value) } : value,
  );
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
