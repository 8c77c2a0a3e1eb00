/** What the README shows is what really happens. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { builtinSubject } from '../check/builtin.ts';
import { openSubject } from '../check/check-subject.ts';
import { tell } from '../check/explore/story.ts';
import { stepLines } from '../check/report/text.ts';
import { Revisits } from '../check/revisit.ts';
import { buildImage } from '../kernel/image.ts';
import { EXIT_STATUS_HELP } from './exit-status.ts';
import { capturedIo } from './io.fixture.ts';
import { espfix } from './program.ts';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'espfix-readme-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The code block that follows a comment. */
function block(comment: string): string {
  const found = new RegExp(`<!-- ${comment} -->\\s*\`\`\`\\w+\\n(.*?)\`\`\``, 's').exec(readme);
  if (!found) throw new Error(`the README has no block after "${comment}"`);
  return found[1];
}

it('the table is the one that espfix check prints', async () => {
  const io = capturedIo('');
  expect(await espfix(['check'], io)).toBe(0);
  expect(block('the output of espfix check')).toBe(io.out());
}, 300_000);

it('the story is what the schedule shows, in the visit that it names', () => {
  const [shown] = /^1\. gs: .*?(?=^```)/ms.exec(readme) ?? [''];
  const [, at, entry, id, cpu, start] =
    /NMI at boundary (\d+)\n +in (.+) \(visit (\d+), processor (\d+), ([\d,]+) instr/.exec(shown) ?? [];
  const begin = Number(start.replaceAll(',', ''));
  const subject = builtinSubject('swapgs-by-cs-nmi');
  const { recording, stacks } = openSubject({ ...subject, watch: begin + 5000 });
  const visit = recording.visits[Number(id)];
  expect(visit).toMatchObject({ entry, cpu: Number(cpu), start: begin });
  const plain = (line: string) => line.trim().replace(/ +/g, ' ');
  const told = new Revisits(subject, stacks).visit(visit, (experiment) =>
    stepLines(tell(experiment, [{ kind: 'nmi', at: Number(at) }], { most: 50 }).steps).map(plain),
  );
  const lines = shown.slice(shown.indexOf('story ') + 'story '.length).split('\n');
  const steps = lines.map(plain).filter((line) => line !== '' && line !== '...');
  expect(steps.length).toBeGreaterThan(5);
  expect(told).toEqual(expect.arrayContaining(steps));
});

it('the exit statuses are those of the help', () => {
  expect(block('the output of espfix help exit-status')).toBe(EXIT_STATUS_HELP);
});

it('the example runs and prints what is said', () => {
  writeFileSync(join(folder, 'none.elf'), buildImage('none', { cpus: 8, seed: 1 }).elf);
  const library = new URL('../index.ts', import.meta.url).href;
  writeFileSync(join(folder, 'example.mts'), block('run by a test').replace("'espfix'", `'${library}'`));
  const result = spawnSync(process.execPath, ['--import', import.meta.resolve('tsx'), 'example.mts'], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(result.stderr).toBe('');
  expect(result.stdout).toBe(block('what the test compares with'));
});
