/** The processor's answers to the IRETQ experiments beside the machine's, as text. */
import { type Experiment, experiments, type Outcome, refusals, returns } from './iret-program.ts';
import { vectorName } from './report.ts';

/** What a return did to the stack pointer, in words. */
export function describeReturn(experiment: Experiment, outcome: Outcome): string {
  const { before, atTarget, vector, error } = outcome;
  if (vector !== undefined || atTarget === undefined)
    return `${vectorName(vector ?? 0)}(${(error ?? 0).toString(16)})`;
  const { rsp } = experiment;
  if (atTarget === rsp) return 'RSP from the frame';
  if ((atTarget & 0xffff_ffffn) === (rsp & 0xffff_ffffn)) return 'ESP from the frame';
  if ((atTarget & 0xffffn) === (rsp & 0xffffn) && (atTarget >> 16n) % 0x10000n === (before >> 16n) % 0x10000n)
    return 'SP from the frame, ESP[31:16] LEFT OVER';
  return `${atTarget.toString(16)}`;
}

/** What became of a frame that is out of order, in words. */
function describeRefusal(experiment: Experiment, outcome: Outcome): string {
  const { vector, error, atIret, rflags } = outcome;
  if (vector === undefined) {
    const flags = experiment.rflags === 0x202n ? '' : `, RFLAGS ${(rflags ?? 0n).toString(16)}`;
    return `returns (${describeReturn(experiment, outcome)}${flags})`;
  }
  const place = atIret ? 'at IRETQ' : 'at the target';
  return `${vectorName(vector)}(${(error ?? 0).toString(16)}) ${place}`;
}

/** Whether the two answers are the same in every bit that is recorded. */
function sameOutcome(a: Outcome, b: Outcome): boolean {
  return (
    a.before === b.before &&
    a.atTarget === b.atTarget &&
    a.after === b.after &&
    a.rflags === b.rflags &&
    a.vector === b.vector &&
    a.error === b.error &&
    a.atIret === b.atIret
  );
}

const hex16 = (value: bigint | undefined) =>
  value === undefined ? '-' : value.toString(16).padStart(16, '0');

/** Rows as lines with aligned columns. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  );
}

/** Both tables, and how many experiments differ. */
export function compareOutcomes(
  silicon: readonly Outcome[],
  machine: readonly Outcome[],
): { text: string; different: number } {
  let different = 0;
  const verdict = (i: number) => {
    if (sameOutcome(silicon[i], machine[i])) return 'same';
    different++;
    return 'DIFFERENT';
  };
  const returnRows = [
    ['CS', 'SS', 'this processor', 'the machine', ''],
    ...returns.map((experiment, i) => [
      experiment.code,
      experiment.stack,
      describeReturn(experiment, silicon[i]),
      describeReturn(experiment, machine[i]),
      verdict(i),
    ]),
  ];
  const bits = [
    ['CS', 'SS', 'RSP before', 'at the target', 'then in 64-bit code', 'the machine at the target', 'then'],
    ...returns.map((experiment, i) => [
      experiment.code,
      experiment.stack,
      hex16(silicon[i].before),
      hex16(silicon[i].atTarget),
      hex16(silicon[i].after),
      hex16(machine[i].atTarget),
      hex16(machine[i].after),
    ]),
  ];
  const refusalRows = [
    ['CS', 'SS', 'frame', 'this processor', 'the machine', ''],
    ...refusals.map((experiment, k) => {
      const i = returns.length + k;
      return [
        experiment.code,
        experiment.stack,
        experiment.fault ?? '',
        describeRefusal(experiment, silicon[i]),
        describeRefusal(experiment, machine[i]),
        verdict(i),
      ];
    }),
  ];
  const text = [
    'Stack pointer after IRETQ at CPL 3, by code and stack segment:',
    '',
    ...align(returnRows),
    '',
    'In bits, with RSP = 8badf00d5aadc0de in the frame:',
    '',
    ...align(bits),
    '',
    'Frames out of order:',
    '',
    ...align(refusalRows),
    '',
    different === 0
      ? `All ${experiments.length} answers are the same.`
      : `${different} of ${experiments.length} answers differ.`,
    '',
  ].join('\n');
  return { text, different };
}
