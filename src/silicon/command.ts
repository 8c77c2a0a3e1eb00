/** `espfix silicon`: a small native program's answers on this processor beside the machine's. */
import { hostUnfit, readCpuInfo, runNatively } from './host.ts';
import { buildIretProgram, readOutcomes } from './iret-program.ts';
import { compareOutcomes } from './iret-table.ts';
import { runProgram } from './personality.ts';

/** Where the command writes. */
export interface SiliconIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** Exit status of the program where the kernel has no modify_ldt. */
const NO_LDT = 2;

/**
 * Builds the program, runs it natively and on the machine, and prints both tables.
 * @returns 0 if all answers are the same, 1 if any differs, 2 if this host cannot run the program (said in one line)
 */
export async function siliconCommand(io: SiliconIo): Promise<number> {
  const refuse = (reason: string): number => {
    io.stderr.write(`espfix silicon: ${reason}\n`);
    return 2;
  };
  const unfit = hostUnfit();
  if (unfit) return refuse(unfit);
  const { image, iret } = buildIretProgram();
  let native: ReturnType<typeof runNatively>;
  try {
    native = runNatively(image);
  } catch (error) {
    return refuse(
      `this host does not run the program: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  if (native.status === NO_LDT) return refuse('needs a kernel with modify_ldt, and this one refuses it');
  if (native.status !== 0)
    return refuse(`this host does not run the program: ${native.signal ?? `exit status ${native.status}`}`);
  const ours = runProgram(image);
  if (ours.status !== 0) {
    io.stdout.write(
      `On the machine the program ended by ${ours.signal ? `signal ${ours.signal}` : `exit ${ours.status}`}.\n`,
    );
    return 1;
  }
  const { text, different } = compareOutcomes(
    readOutcomes(native.output, iret),
    readOutcomes(ours.output, iret),
  );
  io.stdout.write(`This processor: ${readCpuInfo().model}\n\n${text}`);
  return different === 0 ? 0 : 1;
}
