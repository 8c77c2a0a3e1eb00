/** Findings and summaries of the fuzzer in words. */
import { CASE, decodeCase, type Result } from './batch.ts';
import { REGISTER_NAMES } from './compare.ts';
import { disassemble } from './disassembly.ts';
import { environmentRules } from './environment.ts';
import type { Finding, FuzzSummary } from './fuzz.ts';
import { CODE } from './layout.ts';
import { IMAGE } from './vector-state.ts';

const hex = (value: bigint | number, digits = 0) =>
  (typeof value === 'bigint' ? BigInt.asUintN(128, value) : value >>> 0).toString(16).padStart(digits, '0');

const VECTOR_NAMES: Readonly<Record<number, string>> = {
  0: '#DE', 1: '#DB', 3: '#BP', 4: '#OF', 5: '#BR', 6: '#UD', 7: '#NM', 10: '#TS', 11: '#NP', 12: '#SS', 13: '#GP', 14: '#PF', 16: '#MF', 17: '#AC', 19: '#XM',
}; // biome-ignore format: a table

/** `#GP` and its like, or the number. */
export function vectorName(vector: number): string {
  return VECTOR_NAMES[vector] ?? `vector ${vector}`;
}

function registers(gpr: readonly bigint[]): string[] {
  const lines: string[] = [];
  for (let row = 0; row < 4; row++)
    lines.push(
      gpr
        .slice(row * 4, row * 4 + 4)
        .map((value, i) => `${REGISTER_NAMES[row * 4 + i].padEnd(3)} ${hex(value, 16)}`)
        .join('  '),
    );
  return lines;
}

/** YMM registers with what they hold at the start, highest byte first, a line each. */
function vectorRegisters(image: Uint8Array | undefined): string[] {
  if (!image) return [];
  const bytes = (at: number) =>
    Array.from(image.subarray(at, at + 16), (byte) => hex(byte, 2))
      .reverse()
      .join('');
  return Array.from(
    { length: 16 },
    (_, i) => `        ymm${i} ${bytes(IMAGE.ymmHigh + 16 * i)} ${bytes(IMAGE.xmm + 16 * i)}`,
  );
}

function outcome(result: Result): string[] {
  const fault = `${vectorName(result.trapno)} error ${hex(result.err)} cr2 ${hex(result.cr2)}`;
  const selectors = (['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const).map(
    (name) => `${name} ${hex(result[name], 4)}`,
  );
  return [
    `${fault}  rip ${hex(result.rip)}  rflags ${hex(result.rflags)}`,
    ...registers(result.gpr),
    `${selectors.join(' ')}  fs base ${hex(result.fsBase)} gs base ${hex(result.gsBase)}`,
    `${result.changed} words of memory changed ${result.words
      .map((word) => `+${hex(word.index * 4)}=${hex(word.value, 8)}`)
      .join(' ')}`,
  ];
}

/** A finding, with everything needed to see and to replay it. */
export function describeFinding(finding: Finding): string {
  const { program } = finding;
  const start = decodeCase(
    new DataView(finding.caseBytes.buffer, finding.caseBytes.byteOffset, CASE.size),
    0,
  );
  const rip = start.rip;
  const listing = disassemble(program.bytes, program.bits, rip).map((line) => {
    const bytes = Array.from(program.bytes.subarray(line.offset, line.offset + line.length), (byte) =>
      hex(byte, 2),
    );
    return `  ${hex(rip + BigInt(line.offset), 8)}  ${bytes.join(' ').padEnd(32)} ${line.text}`;
  });
  const path = finding.executed.map((line) => line.text).join(' ; ');
  const patch = Array.from(start.patch, (byte) => hex(byte, 2)).join('');
  return [
    `case ${finding.number}: ${program.bits}-bit code at ${hex(CODE + program.start)}`,
    ...listing,
    `executed: ${path}`,
    `start   rip ${hex(start.rip)}  rflags ${hex(start.rflags)}`,
    ...registers(start.gpr).map((line) => `        ${line}`),
    `        cs ${hex(start.cs)} ss ${hex(start.ss)} ds ${hex(start.ds)} es ${hex(start.es)} fs ${hex(start.fs)} gs ${hex(start.gs)}  fs base ${hex(start.fsBase)} gs base ${hex(start.gsBase)}  patch at +${hex(start.patchAt)}: ${patch}`,
    ...vectorRegisters(finding.image),
    ...outcome(finding.native).map((line, i) => `${i ? '       ' : 'silicon'} ${line}`),
    ...outcome(finding.machine).map((line, i) => `${i ? '       ' : 'machine'} ${line}`),
    ...finding.differences.map(
      ({ field, native, machine }) => `  ${field}: silicon ${hex(native)}, machine ${hex(machine)}`,
    ),
    `replay: npm run fuzz:silicon -- --seed ${finding.seed} --case ${finding.number}`,
  ].join('\n');
}

/** A finding in a line, for while a run goes on. */
export function describeBriefly({ number, program, executed, differences }: Finding): string {
  const fields = differences.map(({ field }) => field).join(', ');
  return `case ${number} differs (${program.bits}-bit): ${fields}; executed ${executed.map(({ text }) => text).join(' ; ')}`;
}

/** A run's summary. */
export function describeSummary(summary: FuzzSummary, seconds: number): string {
  const lines = [
    `${summary.cases} cases, ${summary.compared} compared and equal, ${summary.findings.length} differ`,
    `${Math.round(summary.cases / seconds)} cases a second`,
  ];
  const vectors = [...summary.vectors].sort((a, b) => b[1] - a[1]);
  lines.push(`ended by ${vectors.map(([vector, count]) => `${vectorName(vector)} ${count}`).join(', ')}`);
  for (const [name, count] of summary.leftOut) {
    const reason = environmentRules.find((rule) => rule.name === name)?.reason;
    lines.push(`left out ${count}: ${name}${reason ? ` (${reason})` : ''}`);
  }
  if (summary.transient) lines.push(`${summary.transient} differences did not come again`);
  return lines.join('\n');
}
