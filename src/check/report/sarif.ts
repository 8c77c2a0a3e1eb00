/**
 * The report as SARIF 2.1.0 (OASIS, docs.oasis-open.org/sarif/sarif/v2.1.0): a rule a property, a result a finding, with the story or the
 * path of a leak as code flow.
 */
import type { Finding, Place, PropertyName } from '../finding.ts';
import { propertyNames } from '../finding.ts';
import {
  type CheckReport,
  describeSchedule,
  describeVisit,
  hex,
  highlights,
  type Told,
  titleOf,
} from './check-report.ts';

/** A property in a sentence, for lists of rules. */
const titles: Record<PropertyName, string> = {
  transparent: 'User mode cannot tell that events came.',
  'kernel-bits': 'No bit of a kernel address or secret reaches user mode.',
  gs: 'The kernel uses its own GS base, user mode its own.',
  stack: 'Frames are pushed to kernel stacks, and none over another that is live.',
  ministack: 'A processor keeps to its own ministack.',
  progress: 'The kernel comes back to user mode, ready for the next event.',
  assertion: 'An assertion of the plan holds.',
};

const SCHEMA = 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json';

/** The log as plain JSON data: one run for each subject. */
export function sarifReport({ version, subjects }: CheckReport) {
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: subjects.map(({ report, file, told }) => {
      const image = file ?? `${report.subject}.elf`;
      return {
        tool: {
          driver: {
            name: 'espfix',
            version,
            semanticVersion: version,
            rules: propertyNames.map((name) => ({
              id: name,
              name,
              shortDescription: { text: titles[name] },
              defaultConfiguration: { level: 'error' },
            })),
          },
        },
        automationDetails: { id: `espfix/${encodeURIComponent(report.subject)}/depth-${report.depth}` },
        columnKind: 'utf16CodeUnits',
        invocations: [
          {
            executionSuccessful: true,
            toolExecutionNotifications: report.notes.map((text) => ({ level: 'note', message: { text } })),
          },
        ],
        properties: { verdict: report.verdict, experiments: report.experiments },
        results: report.findings.map((finding, i) => result(finding, told[i], image)),
      };
    }),
  };
}

function result(finding: Finding, told: Told | undefined, image: string) {
  const last = finding.struck.at(-1);
  const flows = codeFlows(finding, told, image);
  return {
    ruleId: finding.property,
    ruleIndex: propertyNames.indexOf(finding.property),
    kind: 'fail',
    level: 'error',
    message: {
      text: [
        `${titleOf(finding)}. ${describeSchedule(finding.schedule)}, in ${describeVisit(finding.visit)}.`,
        ...finding.details,
        ...finding.registers.map((r) => `${r.name}: ${r.found} instead of ${r.expected}`),
        ...(told?.replay === undefined ? [] : [`Replay: ${told.replay}`]),
      ].join('\n'),
    },
    locations: last ? [location(last.place, image)] : [{ physicalLocation: artifact(image) }],
    ...(flows.length > 0 && { codeFlows: flows }),
    occurrenceCount: finding.count,
    partialFingerprints: { 'espfix/cause/v1': causeOf(finding) },
  };
}

/** What a cause is told again by in the next run. */
function causeOf({ property, what, schedule, struck }: Finding): string {
  const places = struck.map(({ place }) => place.name.replace(/\+0x[0-9a-f]+.*$/, ''));
  return [property, what, ...schedule.map(({ kind }) => kind), ...places].join('|');
}

function codeFlows(finding: Finding, told: Told | undefined, image: string) {
  const flows: { message: { text: string }; threadFlows: { locations: object[] }[] }[] = [];
  if (told?.story) {
    const steps = highlights(told.story, 4, 6).filter((step) => typeof step !== 'number');
    flows.push({
      message: { text: 'The schedule, instruction by instruction' },
      threadFlows: [
        {
          locations: steps.map(({ at, place, strikes, delivered, nesting }) => ({
            executionOrder: at,
            nestingLevel: nesting,
            importance:
              strikes.length > 0 ? 'essential' : delivered === undefined ? 'unimportant' : 'important',
            location: location(
              place,
              image,
              [
                ...strikes.map((event) => `${event} strikes`),
                place.text,
                ...(delivered ? [`-> ${delivered}`] : []),
              ].join('; '),
            ),
          })),
        },
      ],
    });
  }
  for (const { location: where, birth, hops } of finding.provenance)
    if (hops.length > 0)
      flows.push({
        message: { text: `${where}: ${birth}` },
        threadFlows: [
          {
            locations: hops.map(({ at, place, text }) => ({
              executionOrder: at,
              location: location(place, image, text),
            })),
          },
        ],
      });
  return flows;
}

function location(place: Place, image: string, text = place.text) {
  return {
    physicalLocation: source(place.name) ?? artifact(image),
    logicalLocations: [
      { fullyQualifiedName: place.name, kind: 'function', properties: { address: hex(place.address) } },
    ],
    message: { text: text || place.name },
  };
}

/** `symbol+0x12 (file.S:34)` names its source line. */
function source(name: string) {
  const found = /\(([^()]+):(\d+)\)$/.exec(name);
  const line = Number(found?.[2]);
  return found && line > 0 ? { ...artifact(found[1]), region: { startLine: line } } : undefined;
}

const artifact = (file: string) => ({
  artifactLocation: { uri: file.split(/[\\/]/).map(encodeURIComponent).join('/') },
});
