/**
 * The report as one HTML file that needs nothing else: each finding with its schedule drawn along the instruction boundaries.
 */
import type { Finding, Step, Story, VisitReport } from '../finding.ts';
import {
  type CheckReport,
  describeCoverage,
  describeExtent,
  describeOccurrences,
  describeSchedule,
  describeVisit,
  hex,
  highlights,
  plural,
  type ReportedSubject,
  type Told,
  titleOf,
} from './check-report.ts';
import { escapeMarkup as e } from './escape.ts';
import { visitNames } from './visit-names.ts';

const STYLE = `
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #59636e; --line: #d1d9e0; --panel: #f6f8fa;
  --bad: #c5221f; --good: #1a7f37; --warn: #9a6700; --user: #54aeff; --kernel: #8250df; --event: #c5221f; }
@media (prefers-color-scheme: dark) { :root { --bg: #0d1117; --fg: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --panel: #161b22; --bad: #ff7b72; --good: #3fb950; --warn: #d29922; --user: #388bfd; --kernel: #a371f7; --event: #ff7b72; } }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; background: var(--bg); color: var(--fg);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 0; display: inline; }
code, td, pre { font-family: ui-monospace, monospace; font-size: .85rem; }
.findings { color: var(--bad); } .clean { color: var(--good); } .inconclusive { color: var(--warn); }
details.finding, details.more { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .9rem; margin: .8rem 0; }
details.more { background: var(--panel); } summary { cursor: pointer; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; }
td, th { text-align: left; padding: .1rem .9rem .1rem 0; white-space: pre; vertical-align: top; } th { font-weight: 600; font-size: .85rem; }
tr.strike td { color: var(--event); font-weight: 600; } td.soft, .soft { color: var(--soft); }
ul { margin: .3rem 0; padding-left: 1.2rem; } pre { background: var(--panel); padding: .5rem; overflow-x: auto; }
svg { display: block; margin: .6rem 0; } svg text { font: 11px ui-monospace, monospace; fill: var(--soft); }
svg .user { fill: var(--user); } svg .kernel { fill: var(--kernel); } svg .axis { stroke: var(--line); }
svg .event { stroke: var(--event); } svg text.event { fill: var(--event); stroke: none; font-weight: 600; } svg .delivered { stroke: var(--soft); stroke-dasharray: 2 2; }
`;

/** The document, ending with a newline. */
export function htmlReport({ version, subjects }: CheckReport): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${e(`espfix check: ${subjects.map(({ report }) => report.subject).join(', ')}`)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>espfix check</h1>
<p class="soft">espfix ${e(version)}</p>
${subjects.map(subjectHtml).join('\n')}
</body>
</html>
`;
}

function subjectHtml({ report, told, file }: ReportedSubject): string {
  const summary = report.verdict === 'findings' ? plural(report.findings.length, 'finding') : report.verdict;
  return `<section>
<h2>${e(report.subject)}: <span class="${report.verdict}">${e(summary)}</span></h2>
<ul>
${[
  ...(file === undefined ? [] : [`image ${file}`]),
  ...describeExtent(report),
  `events: ${report.events.join(', ') || 'none'}`,
  `properties: ${report.properties.join(', ')}`,
  ...report.notes,
]
  .map((line) => `<li>${e(line)}</li>`)
  .join('\n')}
</ul>
${report.findings.map((finding, i) => findingHtml(finding, told[i] ?? {}, i + 1)).join('\n')}
${coverageHtml(report.visits)}
</section>`;
}

function findingHtml(finding: Finding, { story, replay }: Told, number: number): string {
  const lines = [
    `<p>${e(describeSchedule(finding.schedule))}<br><span class="soft">in ${e(describeVisit(finding.visit))}</span></p>`,
    list(finding.struck.map(({ event, place }) => `${event} at ${place.name}: ${place.text}`)),
    list(finding.details),
  ];
  if (finding.rip !== undefined) lines.push(`<p class="soft">at <code>${e(hex(finding.rip))}</code></p>`);
  if (story) lines.push(timeline(story));
  if (finding.registers.length > 0)
    lines.push(
      table(
        ['register', 'found', 'expected'],
        finding.registers.map(({ name, found, expected }) => [name, found, expected]),
      ),
    );
  for (const { location, birth, hops } of finding.provenance)
    lines.push(
      `<p>Leaked: <code>${e(location)}</code>, born as ${e(birth)}</p>`,
      table(
        ['boundary', 'place', 'instruction', 'what it did'],
        hops.map(({ at, place, text }) => [`${at}`, place.name, place.text, text]),
      ),
    );
  if (story) lines.push(storyHtml(story));
  if (finding.count > 1)
    lines.push(`<p class="soft">Seen ${e(describeOccurrences(finding, finding.alsoAt.length))}</p>`);
  if (replay !== undefined) lines.push(`<pre>${e(replay)}</pre>`);
  return `<details class="finding"${number === 1 ? ' open' : ''}>
<summary><h3>${number}. ${e(titleOf(finding))}</h3></summary>
${lines.filter((line) => line !== '').join('\n')}
</details>`;
}

const list = (lines: readonly string[]) =>
  lines.length === 0 ? '' : `<ul>${lines.map((line) => `<li>${e(line)}</li>`).join('')}</ul>`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]) =>
    row.map((cell) => `<${tag}>${e(cell)}</${tag}>`).join('');
  return `<div class="scroll"><table><tr>${cells('th', head)}</tr>
${rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('\n')}
</table></div>`;
}

function storyHtml(story: Story): string {
  const rows = highlights(story, 8, 12).map((step) => {
    if (typeof step === 'number')
      return `<tr><td></td><td class="soft" colspan="6">... ${e(plural(step, 'step'))} more</td></tr>`;
    const strikes = step.strikes
      .map((event) => `<tr class="strike"><td></td><td colspan="6">${e(event)} strikes</td></tr>`)
      .join('');
    const cells = [
      step.place.name,
      `${step.cpl}`,
      hex(step.rsp),
      hex(step.gsBase),
      step.place.text,
      step.delivered === undefined ? '' : `-> ${step.delivered}`,
    ];
    return `${strikes}<tr><td class="soft">${step.at}</td>${cells.map((cell) => `<td>${e(cell)}</td>`).join('')}</tr>`;
  });
  return `<details class="more"><summary>Instruction by instruction</summary><div class="scroll"><table>
<tr><th>boundary</th><th>place</th><th>CPL</th><th>RSP</th><th>GS base</th><th>instruction</th><th></th></tr>
${rows.join('\n')}
<tr><td></td><td colspan="6">${e(`${story.ending}, at ${story.end.name}`)}</td></tr>
</table></div></details>`;
}

const LEFT = 90;
const LANE = 22;
const TOP = 34;
/** Width of the drawing's axis, at most; and of a boundary. */
const WIDEST = 1600;
const STEP = 12;
/** Of a letter in a drawing, at most. */
const LETTER = 8;

/** Lanes from user mode down into nested handlers, along the boundaries; a line for each event. */
function timeline({ steps, ending }: Story): string {
  if (steps.length === 0) return '';
  const from = steps[0].at;
  const until = steps[steps.length - 1].at + 1;
  const scale = Math.min(STEP, WIDEST / (until - from));
  const x = (at: number) => LEFT + (at - from) * scale;
  // A visit that an interrupt begins is in its handler; one that SYSCALL begins is in none.
  const least = steps.find(({ cpl }) => cpl !== 3)?.nesting ?? 0;
  const laneOf = ({ cpl, nesting }: Step) => (cpl === 3 ? 0 : 1 + Math.max(0, Math.min(nesting - least, 8)));
  const lanes = Math.max(1, ...steps.map(laneOf)) + 1;
  const bottom = TOP + lanes * LANE;
  let width = x(until) + 10;
  /** Text from `left` on, which widens the drawing if need be. */
  const text = (left: number, y: number, content: string, name?: string) => {
    width = Math.max(width, left + content.length * LETTER);
    return `<text${name ? ` class="${name}"` : ''} x="${round(left)}" y="${y}">${e(content)}</text>`;
  };
  const parts: string[] = [];
  for (let lane = 0; lane < lanes; lane++) {
    const name = lane === 0 ? 'user mode' : lane === 1 ? 'kernel' : `handler ${lane - 1}`;
    parts.push(text(0, TOP + lane * LANE + 14, name));
  }
  for (let i = 0; i < steps.length; ) {
    const lane = laneOf(steps[i]);
    let j = i;
    while (j < steps.length && laneOf(steps[j]) === lane) j++;
    const [a, b] = [steps[i], steps[j - 1]];
    const title = `boundaries ${a.at} to ${b.at}: ${a.place.name} to ${b.place.name}`;
    parts.push(
      `<rect class="${lane === 0 ? 'user' : 'kernel'}" x="${round(x(a.at))}" y="${TOP + lane * LANE + 3}" width="${round(Math.max(1, x(b.at + 1) - x(a.at) - 1))}" height="${LANE - 6}" rx="2"><title>${e(title)}</title></rect>`,
    );
    i = j;
  }
  steps.forEach(({ at, strikes, delivered }, i) => {
    const at2 = round(x(at));
    if (delivered !== undefined)
      parts.push(
        `<line class="delivered" x1="${round(x(at) + scale)}" x2="${round(x(at) + scale)}" y1="${TOP}" y2="${bottom}"><title>${e(delivered)}</title></line>`,
      );
    if (strikes.length === 0) return;
    const row = 10 + (steps.slice(0, i).filter((s) => s.strikes.length > 0).length % 2) * 12;
    parts.push(
      `<line class="event" x1="${at2}" x2="${at2}" y1="${row}" y2="${bottom}"/>${text(x(at) + 3, row, strikes.join(', '), 'event')}`,
    );
  });
  const every = Math.max(1, 10 ** Math.ceil(Math.log10(60 / scale / 5))) * 5;
  parts.push(
    `<line class="axis" x1="${LEFT}" x2="${round(x(until))}" y1="${bottom + 2}" y2="${bottom + 2}"/>`,
  );
  for (let at = Math.ceil(from / every) * every; at <= until; at += every)
    parts.push(text(x(at), bottom + 15, String(at)));
  const label = `Timeline of ${until - from} boundaries; ${ending}`;
  return `<div class="scroll"><svg width="${round(width)}" height="${bottom + 20}" role="img" aria-label="${e(label)}">
${parts.join('\n')}
</svg></div>`;
}

const round = (value: number) => Math.round(value * 100) / 100;

function coverageHtml(visits: readonly VisitReport[]): string {
  const names = visitNames(visits);
  const rows = visits.map((report) => {
    const { visit, skipped, complete, bounded, coverage } = report;
    const extent = skipped ?? (complete ? 'complete' : `bounded at ${bounded}`);
    const head = `visit ${visit.id}: ${names.get(visit.id)}: ${plural(report.experiments, 'experiment')}, ${extent}`;
    if (coverage.length === 0) return `<p>${e(head)}</p>`;
    return `<details class="more"><summary>${e(head)}</summary>${table(
      ['boundary', 'CPL', 'place', 'instruction', 'interrupted by'],
      coverage.map(({ at, cpl, place, events }) => [
        `${at}`,
        `${cpl}`,
        place.name,
        place.text,
        describeCoverage(events),
      ]),
    )}</details>`;
  });
  return `<details class="more"><summary>Coverage: ${e(plural(visits.length, 'visit'))}</summary>
${rows.join('\n')}
</details>`;
}
