/** What the README shows is what really happens. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
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
