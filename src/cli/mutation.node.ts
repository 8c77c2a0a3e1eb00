/**
 * `npm run mutation`: tries every mutant of the sound kernel and writes docs/mutation.md.
 *
 *     npm run mutation -- [--jobs N] [--journal FILE] [--only TEXT] [--output FILE]
 *
 * With a journal, verdicts that it holds are not worked out again. `--only` takes mutants whose keys contain the text, and
 * prints verdicts instead of writing the document. Ends with status 1 if a survivor has no explanation.
 */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Tinypool } from 'tinypool';
import type { Mutant } from '../check/mutation/mutant.ts';
import { mutationReport } from '../check/mutation/report.ts';
import { TestBed, type Verdict } from '../check/mutation/test-bed.ts';

const BATCH = 8;

/** The command line; a usage error ends with one line and status 2. */
function options() {
  try {
    const { values } = parseArgs({
      options: {
        jobs: { type: 'string' },
        journal: { type: 'string' },
        only: { type: 'string' },
        output: { type: 'string' },
      },
    });
    if (values.jobs !== undefined && !/^[1-9]\d*$/.test(values.jobs))
      throw new Error(`--jobs ${values.jobs}: expected a number of threads, 1 or more`);
    return values;
  } catch (error) {
    console.error(`mutation: ${error instanceof Error ? error.message.split('. ')[0] : error}`);
    process.exit(2);
  }
}

const values = options();
const jobs = Number(values.jobs ?? availableParallelism());
const { journal, only } = values;

const verdicts = new Map<string, Verdict>();
if (journal !== undefined && existsSync(journal))
  for (const line of readFileSync(journal, 'utf8').split('\n')) {
    if (line === '') continue;
    const [key, verdict]: [string, Verdict] = JSON.parse(line);
    verdicts.set(key, verdict);
  }

const bed = new TestBed();
const mutants = bed.mutants.filter(({ key }) => only === undefined || key.includes(only));
const left = mutants.filter(({ key }) => !verdicts.has(key));
// The mutants of one place take about as long as each other: spread them.
const batches: Mutant[][] = Array.from({ length: Math.ceil(left.length / BATCH) }, () => []);
for (const [i, mutant] of left.entries()) batches[i % batches.length].push(mutant);

const { coverage } = bed;
const pool = new Tinypool({
  filename: new URL(`./mutation-worker.node${import.meta.url.slice(-3)}`, import.meta.url).href,
  minThreads: jobs,
  maxThreads: jobs,
  idleTimeout: 2 ** 31 - 1,
});
await Promise.all(
  batches.map(async (batch) => {
    const keys = batch.map(({ key }) => key);
    const found: (readonly [string, Verdict])[] = await pool.run({ keys, coverage });
    for (const [key, verdict] of found) {
      verdicts.set(key, verdict);
      if (only !== undefined) console.log(`${key}: ${JSON.stringify(verdict)}`);
    }
    if (journal !== undefined)
      appendFileSync(journal, found.map((each) => `${JSON.stringify(each)}\n`).join(''));
    const done = mutants.filter(({ key }) => verdicts.has(key)).length;
    process.stderr.write(`\r${done} of ${mutants.length} mutants`);
  }),
);
await pool.destroy();
process.stderr.write('\n');

const { text, caught, unexplained, outdated } = mutationReport(mutants, verdicts);
console.log(`${caught} of ${mutants.length} mutants caught`);
if (only === undefined) {
  const output = values.output ?? fileURLToPath(new URL('../../docs/mutation.md', import.meta.url));
  writeFileSync(output, text);
  for (const reason of outdated) console.error(`explains no survivor: ${reason}`);
}
for (const key of unexplained) console.error(`survivor without an explanation: ${key}`);
process.exitCode = unexplained.length > 0 || (only === undefined && outdated.length > 0) ? 1 : 0;
