/** The option `--cpu`: its check, and what `--cpu help` prints. */
import { featureNames } from '../arch/features.ts';
import { modelTitles, processorOf } from '../arch/processor.ts';
import { UserError } from './failure.ts';

const WIDTH = 90;

/** Models with a word on each, and the features that can be switched. */
export function cpuHelp(): string {
  const models = [...modelTitles].map(([name, title]) => `  ${name.padEnd(14)}${title}\n`);
  const lines = [''];
  for (const name of featureNames) {
    const last = lines.length - 1;
    if (lines[last].length + name.length + 1 > WIDTH) lines.push(name);
    else lines[last] += lines[last] === '' ? name : ` ${name}`;
  }
  return `Models

${models.join('')}
Features, switched after the model: --cpu haswell,-avx2,+sha

${lines.map((line) => `  ${line}\n`).join('')}
A feature brings what it needs, and takes with it what needs it. What a processor lacks raises #UD or #GP.
`;
}

/** Throws UserError unless there is such a processor. @param where the text stands */
export function checkModel(text: string, where = '--cpu'): void {
  try {
    processorOf(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`${where} ${text}: ${error.message}; espfix run --cpu help lists all`);
  }
}
