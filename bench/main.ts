/**
 * `npm run bench`: guest speed on our machine and its peers, the same image on each.
 *
 *     npm run bench -- [--json] [--loop NAME]... [--on espfix|qemu|bochs|v86]... [--repeat N] [--no-experiments] [--no-loops]
 *       [--linux FOLDER] [--linux32 FOLDER]
 *
 * A folder for `--linux` is one that `npm run linux` has filled, by default that of ESPFIX_LINUX_16BIT or ESPFIX_LINUX; for
 * `--linux32`, one of `npm run linux -- FOLDER linux-image-686-pae --arch i386`. v86 is installed there.
 */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { experimentSpeed } from './experiments.ts';
import { findLoop, loops } from './guest.ts';
import { jobs, type LinuxTimes, measureLinux } from './linux.ts';
import { linuxMachines } from './linux-machines.ts';
import { type Measurement, measure } from './measure.ts';
import { helpTime, restoreCost } from './own.ts';
import { type Subject, subjects } from './subjects.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    loop: { type: 'string', multiple: true },
    on: { type: 'string', multiple: true },
    repeat: { type: 'string', default: '1' },
    experiments: { type: 'boolean', default: true },
    loops: { type: 'boolean', default: true },
    linux: { type: 'string' },
    linux32: { type: 'string' },
  },
  allowNegative: true,
});

const chosen = !values.loops ? [] : values.loop ? values.loop.map(findLoop) : loops;
const isChosen = ({ name }: { readonly name: string }) => !values.on || values.on.includes(name);
const machines = subjects().filter(isChosen);
const repeats = Math.max(1, Number.parseInt(values.repeat, 10) || 1);

const results: Measurement[] = [];
for (const machine of machines) {
  for (const loop of chosen) {
    process.stderr.write(`${machine.version}: ${loop.name}\n`);
    results.push(await measure(machine, loop, repeats));
  }
}
const linux: { what: string; times: LinuxTimes[] }[] = [];
const folder = values.linux ?? process.env.ESPFIX_LINUX_16BIT ?? process.env.ESPFIX_LINUX;
for (const [what, kernel, is32] of [
  ['Linux, 64 bits', folder, false],
  ['Linux, 32 bits', values.linux32, true],
] as const) {
  if (!kernel) continue;
  const times: LinuxTimes[] = [];
  for (const machine of linuxMachines(is32, join(kernel, 'v86')).filter(isChosen)) {
    process.stderr.write(`${machine.version}: ${what}\n`);
    times.push(await measureLinux(machine, kernel, repeats));
  }
  linux.push({ what, times });
}
const restore = restoreCost();
const help = helpTime();
const experiments = values.experiments && values.loops ? await experimentSpeed() : undefined;

if (values.json) {
  const host = { processor: cpus()[0]?.model, processors: cpus().length };
  const versions = Object.fromEntries(machines.map(({ name, version }) => [name, version]));
  console.log(
    JSON.stringify(
      { host, versions, results, linux, restore, help, experiments: experiments ?? null },
      null,
      2,
    ),
  );
} else {
  console.log(`${cpus()[0]?.model}, ${cpus().length} processors`);
  console.log(`${machines.map(({ version }) => version).join(', ')}\n`);
  if (chosen.length > 0) console.log(speedTable(machines));
  for (const loop of chosen) console.log(`  ${loop.name}: ${loop.turn} (${loop.instructions} instructions)`);
  console.log(`\n${breakdown()}`);
  for (const { what, times } of linux)
    console.log(`${what}, seconds of processor time\n${linuxTable(times)}\n`);
  console.log(
    `snapshot: ${restore.restore.toFixed(1)} us to restore after ${restore.instructions} instructions, which take ${restore.run.toFixed(1)} us`,
  );
  console.log(`espfix --help: ${help.help.toFixed(0)} ms, of which Node itself ${help.node.toFixed(0)} ms`);
  if (experiments) console.log(experimentLines());
}

/** Experiments a second, beside QEMU driven from outside. */
function experimentLines(): string {
  if (!experiments) return '';
  const { perSecond, deep, where, qemu } = experiments;
  const us = (value: number) => value.toFixed(1);
  const count = (value: number) => Math.round(value).toLocaleString('en');
  const lines = [
    `experiments: ${count(perSecond)} a second of one processor (linux variant, every event, depth 1)`,
    `  at depth 2: ${count(deep.perSecond)} a second, of which ${(100 * deep.share).toFixed(0)} % are known without being run`,
    `  one with an NMI: ${us(where.strike)} us to go back and strike, ${us(where.run)} to run until all is as it was`,
    typeof qemu === 'string'
      ? `  ${qemu}`
      : `  QEMU, by gdbstub, monitor and loadvm: ${qemu.perSecond.toFixed(0)} a second; ratio ${count(qemu.ratio)} to depth 1, ${count(deep.perSecond / qemu.perSecond)} to depth 2`,
  ];
  return lines.join('\n');
}

/** Seconds of each part, and those of each peer as a ratio of ours. */
function linuxTable(times: readonly LinuxTimes[]): string {
  const own = times.find(({ machine }) => machine === 'espfix');
  const peers = own ? times.filter((each) => each !== own) : [];
  const table = new Table({
    head: ['', ...times.map(({ machine }) => machine), ...peers.map(({ machine }) => `${machine}\n/ espfix`)],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', ...Array.from({ length: times.length + peers.length }, () => 'right' as const)],
  });
  const row = (name: string, of: (each: LinuxTimes) => number) =>
    table.push([
      name,
      ...times.map((each) => of(each).toFixed(2)),
      ...peers.map((each) => (own ? (of(each) / of(own)).toFixed(2) : '-')),
    ]);
  row('power-on to init', ({ init }) => init);
  row('power-on to the shell', ({ shell }) => shell);
  for (const { name, what } of jobs) row(what, (each) => each.jobs[name]);
  return table.toString();
}

function find(loop: string, subject: string): Measurement | undefined {
  return results.find((r) => r.loop === loop && r.subject === subject);
}

/** Speed of each loop, and ours as a ratio of each peer's. */
function speedTable(all: readonly Subject[]): string {
  const peers = all.filter((subject) => subject.name !== 'espfix');
  const compared = peers.length < all.length ? peers : [];
  const table = new Table({
    head: [
      'loop',
      ...all.map(({ name }) => `${name}\nMIPS`),
      ...all.map(({ name }) => `${name}\nus/turn`),
      ...compared.map(({ name }) => `espfix\n/ ${name}`),
    ],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', ...Array.from({ length: all.length * 2 + compared.length }, () => 'right' as const)],
  });
  for (const loop of chosen) {
    const own = find(loop.name, 'espfix');
    table.push([
      loop.name,
      ...all.map(({ name }) => find(loop.name, name)?.mips.toFixed(1) ?? '-'),
      ...all.map(({ name }) => find(loop.name, name)?.turn.toFixed(3) ?? '-'),
      ...compared.map(({ name }) => {
        const theirs = find(loop.name, name);
        return own && theirs ? (own.mips / theirs.mips).toFixed(2) : '-';
      }),
    ]);
  }
  return table.toString();
}

/** Where the time of an interrupt round trip goes, by differences between loops. */
function breakdown(): string {
  const lines: string[] = [];
  for (const { name } of machines) {
    const time = (loop: string) => find(loop, name)?.turn ?? Number.NaN;
    const empty = time('empty');
    const trip = time('interrupt') - empty;
    const same = time('interrupt-same') - empty;
    const iret = time('iret-same') - time('pushes');
    if (Number.isNaN(trip + same + iret)) continue;
    const us = (value: number) => `${value.toFixed(2)} us`;
    lines.push(
      `${name}: an interrupt round trip CPL 3 -> 0 -> 3 takes ${us(trip)}:`,
      `  delivery through the IDT at the same privilege  ${us(same - iret)}`,
      `  IRETQ at the same privilege                     ${us(iret)}`,
      `  both, for changing privilege and stack          ${us(trip - same)}`,
      `  for comparison: the cheapest system instruction ${us(time('system') - empty)}, SYSCALL and SYSRETQ ${us(time('syscall') - empty)}, a fault and IRETQ ${us(time('fault') - empty)}`,
      '',
    );
  }
  return lines.join('\n');
}
