/** The fuzzer's command line: `npm run fuzz:silicon -- [--seed S] [--cases N] [--case K] [--list]`. Node-only. */
import { parseArgs } from 'node:util';
import { allForms } from './forms.ts';
import { Fuzzer } from './fuzz.ts';
import { makePattern } from './generate.ts';
import { HarnessExit, hostUnfit, NativeRunner } from './native.node.ts';
import { describeBriefly, describeFinding, describeSummary } from './report.ts';
import { describeUnreachable } from './unreachable.ts';

const HELP = `Runs random instructions on this processor and on the machine and compares the outcomes.

  --seed S       seed of the run (default: from the clock, printed)
  --cases N      cases to run (default 100000)
  --first P      program to begin with, for a run in parts (default 0)
  --case K       run one case of the seed again and show it
  --vectors      only programs that use x87 or vector registers (else one batch in four)
  --findings N   stop after N differences (default 10)
  --list         what is compared, what is not and why
  --forms        count programs by instruction form in the summary
  --unimplemented
                 show the bytes of the instructions that stopped the machine

Exit status: 0 nothing differs, 1 something differs, 2 this host cannot run the cases.`;

function number(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`--${name} wants a whole number, not ${text}`);
  return value;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      cases: { type: 'string' },
      first: { type: 'string' },
      case: { type: 'string' },
      findings: { type: 'string' },
      vectors: { type: 'boolean' },
      list: { type: 'boolean' },
      forms: { type: 'boolean' },
      unimplemented: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  if (values.list) {
    console.log(describeUnreachable());
    return 0;
  }
  const seed = number('seed', values.seed, Date.now() % 0x7fff_ffff);
  const cases = number('cases', values.cases, 100_000);
  const unfit = hostUnfit();
  if (unfit) {
    console.error(`fuzz:silicon ${unfit}`);
    return 2;
  }
  let native: NativeRunner;
  try {
    native = await NativeRunner.start(makePattern(seed));
  } catch (error) {
    if (!(error instanceof HarnessExit)) throw error;
    console.error(`fuzz:silicon: ${error.message}`);
    return 2;
  }
  try {
    const fuzzer = new Fuzzer(native, seed);
    console.log(`seed ${seed} on ${native.info.model}`);
    if (values.case !== undefined) {
      const verdict = await fuzzer.replay(number('case', values.case, 0));
      console.log(typeof verdict === 'string' ? verdict : describeFinding(verdict));
      return typeof verdict === 'string' ? 0 : 1;
    }
    const started = performance.now();
    let shown = started;
    const summary = await fuzzer.run({
      seed,
      cases,
      firstProgram: number('first', values.first, 0),
      vectorsOnly: values.vectors ?? false,
      maxFindings: number('findings', values.findings, 10),
      onFinding: (finding) => console.log(describeBriefly(finding)),
      onProgress: (done, findings) => {
        const now = performance.now();
        if (now - shown < 10_000) return;
        shown = now;
        const rate = Math.round((done / (now - started)) * 1000);
        console.log(`${done} cases, ${findings} differ, ${rate} cases a second`);
      },
    });
    const seconds = (performance.now() - started) / 1000;
    for (const finding of summary.findings) console.log(`\n${describeFinding(await fuzzer.shrink(finding))}`);
    console.log(`\n${describeSummary(summary, seconds)}`);
    if (values.unimplemented)
      for (const [bytes, count] of fuzzer.unimplemented)
        console.log(`  stopped the machine ${count} times: ${bytes}`);
    if (values.forms) {
      const missing = allForms().filter((form) => !summary.forms.has(form.name));
      for (const [form, count] of [...summary.forms].sort((a, b) => a[1] - b[1]))
        console.log(`${count} ${form}`);
      if (missing.length > 0) console.log(`not generated: ${missing.map((form) => form.name).join(' ')}`);
    }
    return summary.findings.length > 0 ? 1 : 0;
  } finally {
    native.close();
  }
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 2;
  },
);
