/** Plan files: JSON, or a TypeScript or JavaScript module whose default export is the plan. */
import { readFile } from 'node:fs/promises';
import { extname, resolve } from 'node:path';
import { createJiti } from 'jiti';
import { type Plan, parsePlan } from '../check/plan.ts';
import { PlanError } from '../check/plan-error.ts';
import { fileError, UserError } from './failure.ts';

const MODULES = ['.ts', '.mts', '.cts', '.js', '.mjs', '.cjs'];

/** Loads and checks a plan; throws a UserError of one line that names the file and the field. */
export async function loadPlan(file: string): Promise<Plan> {
  const kind = extname(file);
  if (kind !== '.json' && !MODULES.includes(kind))
    throw new UserError(`${file}: expected a plan in a file of type .json or ${MODULES.join(', ')}`);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw fileError(file, error);
  }
  try {
    return parsePlan(kind === '.json' ? JSON.parse(text) : await importPlan(file), file);
  } catch (error) {
    if (error instanceof PlanError) throw error;
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new UserError(`${file}: ${reason}`);
  }
}

/** The module's default export. `espfix` in it is this very package, wherever the file is. */
async function importPlan(file: string): Promise<unknown> {
  const jiti = createJiti(import.meta.url, {
    fsCache: false,
    moduleCache: false,
    interopDefault: false,
    virtualModules: { espfix: await import('../index.ts') },
  });
  const module = await jiti.import<{ default?: unknown }>(resolve(file));
  if (module.default === undefined)
    throw new PlanError(`${file}: expected a default export: export default definePlan({ ... })`);
  return module.default;
}
