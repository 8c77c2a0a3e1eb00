/** Names of interrupt vectors (SDM vol. 3A table 6-1). */
const names: Record<number, string> = {
  0: '#DE', 1: '#DB', 2: 'NMI', 3: '#BP', 4: '#OF', 5: '#BR', 6: '#UD', 7: '#NM', 8: '#DF', 10: '#TS', 11: '#NP',
  12: '#SS', 13: '#GP', 14: '#PF', 16: '#MF', 17: '#AC', 18: '#MC', 19: '#XM', 20: '#VE', 21: '#CP',
}; // biome-ignore format: a table

/** `#PF`, `INT 0x80`, `interrupt 0x40`. @param source how it arose, as `Machine` tells */
export function describeVector(vector: number, source: string): string {
  if (source === 'software') return `INT 0x${vector.toString(16)}`;
  if (source === 'external') return `interrupt 0x${vector.toString(16)}`;
  return names[vector] ?? `vector 0x${vector.toString(16)}`;
}
