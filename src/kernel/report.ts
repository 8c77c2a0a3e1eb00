/**
 * The report that an espfix kernel image prints on COM1, one line a fact, the same on every machine.
 *
 *     espfix <variant> cpus=<n> seed=<n> protocol=1
 *     pages tables=<n> ministacks=<n>
 *     aliases cpu=<n> mapped=<n> writable=<n> of=65536
 *     capacity slot=<bytes> aliases=<n> ministack=<bytes> cpus=<n>
 *     case cpu=<n> path=<path> cs=<segment> ss=<segment> set=<8 hex> seen=<8 hex> rsp=<16 hex> kernel=<8 hex>
 *          result=<result> ok=<yes|no> name=<name or ->                                       (one line)
 *     oops vector=<n> error=<hex> rip=<16 hex> rsp=<16 hex> cr2=<16 hex>
 *     end ok=<n> failed=<n>
 *
 * `set` is the stack pointer that user space had (or asked for), `seen` what it found after the return,
 * `rsp` the whole register as 64-bit code read it back, `kernel` the kernel's own stack pointer bits 31:16
 * (bits 15:0 are zero) that a return without espfix would leave behind.
 */
import type { Verdict } from './variants/index.ts';

/** How the kernel came to return to user mode. */
export const returnPaths = [
  'int80',
  'syscall',
  'interrupt',
  'timer',
  'exception',
  'breakpoint',
  'nmi',
  'mc',
  'db',
  'sigreturn',
  'first-entry',
] as const;
export type ReturnPath = (typeof returnPaths)[number];

/** Code segments of the silicon table, and the kinds that IRET must refuse (SDM Vol. 2A, IRET). */
export const codeSegmentKinds = [
  'cs64',
  'cs32-gdt',
  'cs32-ldt',
  'cs16-ldt',
  'null',
  'not-present',
  'data',
  'out-of-limit',
  'non-canonical-rip',
] as const;
export type CodeSegmentKind = (typeof codeSegmentKinds)[number];

/** Stack segments of the silicon table, and the kinds that IRET must refuse. */
export const stackSegmentKinds = [
  'ss16-ldt',
  'ss32-ldt',
  'ss16-gdt',
  'flat',
  'null',
  'not-present',
  'wrong-dpl',
  'code',
  'read-only',
  'out-of-limit',
  'out-of-limit-gdt',
] as const;
export type StackSegmentKind = (typeof stackSegmentKinds)[number];

/** Exception mnemonics used in results, by vector (SDM Vol. 3A, Table 6-1). */
export const vectorNames = [
  'de',
  'db',
  'nmi',
  'bp',
  'of',
  'br',
  'ud',
  'nm',
  'df',
  'cso',
  'ts',
  'np',
  'ss',
  'gp',
  'pf',
  'reserved15',
  'mf',
  'ac',
  'mc',
  'xm',
  've',
  'cp',
] as const;

/**
 * - `own`: user space found its own value in every bit of the stack pointer.
 * - `kernel`: bits 31:16 are those of the kernel's stack.
 * - `other`: neither.
 * - `registers`: the stack pointer is right, but another general register was changed by the event.
 * - `missed`: the event (interrupt, NMI...) never came.
 * - `fault:<mnemonic>:<error>`: the return faulted and the task was told by a signal and then repaired its
 *   frame; `seen` is what it found after the repair.
 * - `oops:<mnemonic>`: the kernel itself died on the way and the task with it.
 */
export type CaseResult =
  | 'own'
  | 'kernel'
  | 'other'
  | 'registers'
  | 'missed'
  | `fault:${string}:${string}`
  | `oops:${string}`;

/** One return to user mode. Hexadecimal fields are unsigned. */
export interface CaseLine {
  readonly cpu: number;
  readonly path: ReturnPath;
  readonly cs: CodeSegmentKind;
  readonly ss: StackSegmentKind;
  /** ESP that user space had set, 32 bits. */
  readonly set: number;
  /** ESP that user space found, 32 bits. */
  readonly seen: number;
  /** RSP that 64-bit user code found, 64 bits. */
  readonly rsp: bigint;
  /** Bits 31:16 of the kernel stack pointer, in place. */
  readonly kernel: number;
  readonly result: CaseResult;
  readonly ok: boolean;
  /** A question's name (`q1-...`) or `-`. */
  readonly name: string;
}

/** Page-table pages and ministack pages that the variant costs, counted in the tables as built. */
export interface PagesLine {
  readonly tables: number;
  readonly ministacks: number;
}

/** Aliases of one CPU's ministack page found by walking all 65,536 addresses. */
export interface AliasesLine {
  readonly cpu: number;
  readonly mapped: number;
  readonly writable: number;
  readonly of: number;
}

/** CPUs that one PGD slot serves: slot / aliases / ministack. */
export interface CapacityLine {
  readonly slot: bigint;
  readonly aliases: number;
  readonly ministack: number;
  readonly cpus: number;
}

/** A fault in the kernel that it could not explain. */
export interface OopsLine {
  readonly vector: number;
  readonly error: bigint;
  readonly rip: bigint;
  readonly rsp: bigint;
  readonly cr2: bigint;
}

/** Everything one boot of an image said. */
export interface Report {
  readonly variant: string;
  readonly cpus: number;
  readonly seed: number;
  readonly pages: PagesLine | undefined;
  readonly aliases: readonly AliasesLine[];
  readonly capacity: CapacityLine | undefined;
  readonly cases: readonly CaseLine[];
  readonly oopses: readonly OopsLine[];
  /** The `end` line, missing when the kernel did not get there. */
  readonly end: { readonly ok: number; readonly failed: number } | undefined;
}

/** A line that does not follow the format. */
export class ReportError extends Error {
  readonly line: string;
  constructor(line: string, expected: string) {
    super(`malformed report line: expected ${expected} in ${JSON.stringify(line)}`);
    this.name = 'ReportError';
    this.line = line;
  }
}

const hex = (value: number | bigint, digits: number) => value.toString(16).padStart(digits, '0');

/** One case as the kernel prints it, without the line end. */
export function formatCase(c: CaseLine): string {
  return (
    `case cpu=${c.cpu} path=${c.path} cs=${c.cs} ss=${c.ss} set=${hex(c.set, 8)} seen=${hex(c.seen, 8)} ` +
    `rsp=${hex(c.rsp, 16)} kernel=${hex(c.kernel, 8)} result=${c.result} ok=${c.ok ? 'yes' : 'no'} name=${c.name}`
  );
}

/** Reads `key=value` words in exactly the given order. */
function fields<const K extends readonly string[]>(line: string, keys: K): Record<K[number], string> {
  const words = line.split(' ').slice(1);
  if (words.length !== keys.length) throw new ReportError(line, `${keys.length} fields`);
  const result: Record<string, string> = {};
  for (const [i, key] of keys.entries()) {
    if (!words[i].startsWith(`${key}=`)) throw new ReportError(line, `field "${key}"`);
    result[key] = words[i].slice(key.length + 1);
  }
  return result as Record<K[number], string>;
}

function decimal(line: string, key: string, text: string): number {
  if (!/^(0|[1-9][0-9]*)$/.test(text)) throw new ReportError(line, `a decimal number for "${key}"`);
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new ReportError(line, `a smaller number for "${key}"`);
  return value;
}

function hexadecimal(line: string, key: string, text: string, digits: number): bigint {
  if (text.length !== digits || !/^[0-9a-f]+$/.test(text))
    throw new ReportError(line, `${digits} hexadecimal digits for "${key}"`);
  return BigInt(`0x${text}`);
}

function oneOf<T extends string>(line: string, key: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((value) => value === text);
  if (found === undefined) throw new ReportError(line, `a known "${key}"`);
  return found;
}

function parseCase(line: string): CaseLine {
  const f = fields(line, [
    'cpu',
    'path',
    'cs',
    'ss',
    'set',
    'seen',
    'rsp',
    'kernel',
    'result',
    'ok',
    'name',
  ] as const);
  if (!/^(own|kernel|other|registers|missed|fault:([a-z0-9]+):[0-9a-f]{4}|oops:[a-z0-9]+)$/.test(f.result))
    throw new ReportError(line, 'a known "result"');
  if (!/^(-|[a-z0-9][a-z0-9-]*)$/.test(f.name)) throw new ReportError(line, 'a case name');
  return {
    cpu: decimal(line, 'cpu', f.cpu),
    path: oneOf(line, 'path', f.path, returnPaths),
    cs: oneOf(line, 'cs', f.cs, codeSegmentKinds),
    ss: oneOf(line, 'ss', f.ss, stackSegmentKinds),
    set: Number(hexadecimal(line, 'set', f.set, 8)),
    seen: Number(hexadecimal(line, 'seen', f.seen, 8)),
    rsp: hexadecimal(line, 'rsp', f.rsp, 16),
    kernel: Number(hexadecimal(line, 'kernel', f.kernel, 8)),
    result: f.result as CaseResult,
    ok: oneOf(line, 'ok', f.ok, ['yes', 'no']) === 'yes',
    name: f.name,
  };
}

/**
 * Reads what an image printed. Text before the `espfix` header (firmware and boot loader messages) and after
 * the `end` line is ignored; a malformed line between them raises a ReportError. A report that stops early is
 * returned with `end` undefined.
 */
export function parseReport(text: string): Report {
  const lines = text.split('\n').map((line) => line.replace(/\r+$/, ''));
  // Firmware may leave the cursor in mid-line or print escape sequences, so the header may not start a line.
  const headerAt = lines.findIndex((line) => /espfix [a-z0-9-]+ cpus=/.test(line));
  if (headerAt < 0) throw new ReportError(lines.find((line) => line !== '') ?? '', 'an "espfix" header');
  const header = lines[headerAt].slice(lines[headerAt].search(/espfix [a-z0-9-]+ cpus=/));
  const [, variant, ...rest] = header.split(' ');
  const head = fields(`espfix ${rest.join(' ')}`, ['cpus', 'seed', 'protocol'] as const);
  if (head.protocol !== '1') throw new ReportError(header, 'protocol=1');

  const aliases: AliasesLine[] = [];
  const cases: CaseLine[] = [];
  const oopses: OopsLine[] = [];
  let pages: PagesLine | undefined;
  let capacity: CapacityLine | undefined;
  let end: Report['end'];
  const body = lines.slice(headerAt + 1);
  // The last line may have been cut by a timeout; it counts only if a line end follows it.
  const cut = body.pop();
  for (const line of cut?.startsWith('end ') ? [...body, cut] : body) {
    if (end !== undefined) break;
    switch (line.split(' ', 1)[0]) {
      case 'case':
        cases.push(parseCase(line));
        break;
      case 'pages': {
        const f = fields(line, ['tables', 'ministacks'] as const);
        pages = {
          tables: decimal(line, 'tables', f.tables),
          ministacks: decimal(line, 'ministacks', f.ministacks),
        };
        break;
      }
      case 'aliases': {
        const f = fields(line, ['cpu', 'mapped', 'writable', 'of'] as const);
        aliases.push({
          cpu: decimal(line, 'cpu', f.cpu),
          mapped: decimal(line, 'mapped', f.mapped),
          writable: decimal(line, 'writable', f.writable),
          of: decimal(line, 'of', f.of),
        });
        break;
      }
      case 'capacity': {
        const f = fields(line, ['slot', 'aliases', 'ministack', 'cpus'] as const);
        capacity = {
          slot: BigInt(decimal(line, 'slot', f.slot)),
          aliases: decimal(line, 'aliases', f.aliases),
          ministack: decimal(line, 'ministack', f.ministack),
          cpus: decimal(line, 'cpus', f.cpus),
        };
        break;
      }
      case 'oops': {
        const f = fields(line, ['vector', 'error', 'rip', 'rsp', 'cr2'] as const);
        oopses.push({
          vector: decimal(line, 'vector', f.vector),
          error: hexadecimal(line, 'error', f.error, f.error.length),
          rip: hexadecimal(line, 'rip', f.rip, 16),
          rsp: hexadecimal(line, 'rsp', f.rsp, 16),
          cr2: hexadecimal(line, 'cr2', f.cr2, 16),
        });
        break;
      }
      case 'end': {
        const f = fields(line, ['ok', 'failed'] as const);
        end = { ok: decimal(line, 'ok', f.ok), failed: decimal(line, 'failed', f.failed) };
        if (end.ok !== cases.filter((c) => c.ok).length || end.failed !== cases.filter((c) => !c.ok).length)
          throw new ReportError(line, 'counts that agree with the case lines');
        break;
      }
      default:
        throw new ReportError(line, 'a known kind of line');
    }
  }
  return {
    variant,
    cpus: decimal(header, 'cpus', head.cpus),
    seed: decimal(header, 'seed', head.seed),
    pages,
    aliases,
    capacity,
    cases,
    oopses,
    end,
  };
}

/** Whether user space found the kernel's stack bits where its own should be. */
export function leaked(c: CaseLine): boolean {
  return c.seen !== c.set && c.seen >>> 16 === c.kernel >>> 16;
}

/**
 * What a report says of its variant: `unsafe` if the kernel died, lost a task or gave user space anything
 * unexpected, else `leaks` if user space saw kernel bits, else `safe`.
 *
 * @param leaks whether user space saw kernel bits, for each case that failed; who judges cases himself says it
 */
export function verdictOf(
  report: Report,
  leaks: readonly boolean[] = report.cases.filter((c) => !c.ok).map(leaked),
): Verdict {
  if (report.end === undefined || report.oopses.length > 0 || leaks.includes(false)) return 'unsafe';
  return leaks.length > 0 ? 'leaks' : 'safe';
}
