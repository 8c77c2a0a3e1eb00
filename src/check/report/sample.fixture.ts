/** A report by hand, with names and texts that no format may take for its own syntax. */
import type { Finding, Place, Step, SubjectReport, VisitSummary } from '../finding.ts';
import type { CheckReport } from './check-report.ts';

export const NASTY = `<script>alert("x")</script> & 'quote' ]]> \u0000\u001b[31m`;

const place = (name: string, address: bigint, text: string): Place => ({ name, address, text });
const ENTRY = place('entry_SYSCALL (entry.S:12)', 0xffff_ffff_8000_1000n, 'swapgs');
const SAVE = place('entry_SYSCALL+0x3 (entry.S:13)', 0xffff_ffff_8000_1003n, 'mov gs:[8],rsp');
const USER = place('0x401000', 0x40_1000n, 'syscall');
const HANDLER = place(`nmi<T>::run+0x2`, 0xffff_ffff_8000_2002n, 'mov rax,gs:[0]');

const visit: VisitSummary = { id: 0, cpu: 0, entry: 'SYSCALL', start: 2485, boundaries: 5, occurrences: 7 };
const other: VisitSummary = { ...visit, id: 1, start: 9000, occurrences: 1 };
const alone: VisitSummary = { ...visit, id: 2, entry: 'interrupt 0x40', start: 9900 };

const step = (at: number, where: Place, cpl: number, nesting: number, more: Partial<Step> = {}): Step => ({
  at,
  place: where,
  cpl,
  rsp: cpl === 3 ? 0x7fff_f000n : 0xffff_ffff_8010_0000n - BigInt(8 * at),
  gsBase: cpl === 3 ? 0x5a5a_5a5a_0000n : 0xffff_ffff_8020_0000n,
  nesting,
  strikes: [],
  ...more,
});

const gs: Finding = {
  property: 'gs',
  what: "the kernel accesses memory through user mode's GS base",
  details: ['at nmi<T>::run+0x2', NASTY],
  rip: HANDLER.address,
  subject: 'sample',
  visit,
  schedule: [{ kind: 'nmi', at: 2 }],
  struck: [{ event: 'NMI', place: ENTRY }],
  registers: [{ name: 'rax', expected: '0x0000000000000001', found: '0x0000000000000000' }],
  provenance: [],
  count: 3,
  alsoAt: [ENTRY.name, SAVE.name],
};

const leak: Finding = {
  ...gs,
  property: 'kernel-bits',
  what: 'bits of the kernel reach user mode in rsp[31:16]',
  details: [],
  schedule: [
    { kind: 'fault', at: 1, fault: { vector: 13, error: 0, address: 0x1000n } },
    { kind: 'irq', at: 3, vector: 0x40 },
  ],
  struck: [
    { event: 'fault 13 (error 0x0)', place: USER },
    { event: 'interrupt 0x40', place: SAVE },
  ],
  registers: [],
  provenance: [
    {
      location: 'rsp[31:16]',
      birth: "CPU 0's kernel stack pointer",
      hops: [{ at: 4, place: SAVE, text: 'to gs:[8]' }],
    },
  ],
  count: 1,
  alsoAt: [],
};

export const sampleSubject: SubjectReport = {
  subject: 'sample <kernel>',
  depth: 2,
  events: ['nmi', 'irq', 'fault'],
  properties: ['transparent', 'kernel-bits', 'gs'],
  verdict: 'findings',
  findings: [gs, leak],
  visits: [
    {
      visit,
      returnsTo: 'cs64 ss32',
      experiments: 1234,
      boundaries: 5,
      merged: 10,
      bounded: 0,
      depth: 2,
      complete: true,
      notes: [],
      coverage: [
        { at: 0, place: USER, cpl: 3, events: { nmi: 1, irq: 2 } },
        { at: 1, place: USER, cpl: 3, events: {} },
        { at: 2, place: ENTRY, cpl: 0, events: { nmi: 1 } },
        { at: 3, place: SAVE, cpl: 0, events: { nmi: 1 } },
      ],
    },
    {
      visit: other,
      returnsTo: 'cs64 ss32',
      experiments: 3,
      boundaries: 2,
      merged: 0,
      bounded: 3,
      depth: 2,
      complete: false,
      notes: ['an approximation'],
      coverage: [],
    },
    {
      visit: alone,
      returnsTo: 'cs32 ss16 ldt',
      experiments: 0,
      boundaries: 0,
      merged: 0,
      bounded: 0,
      depth: 2,
      complete: true,
      notes: [],
      coverage: [],
      skipped: 'alone, processor 0 does not come back from it',
    },
  ],
  seen: 9,
  leftOut: 1,
  unfinished: 0,
  experiments: 1237,
  notes: [`visit 2 was not explored: ${NASTY}`],
};

export const sample: CheckReport = {
  version: '1.2.3',
  subjects: [
    {
      report: sampleSubject,
      file: 'boot/my kernel.elf',
      told: [
        {
          replay: 'espfix replay findings/sample-1.json',
          story: {
            steps: [
              step(0, USER, 3, 0),
              step(1, USER, 3, 0),
              step(2, ENTRY, 0, 0, { strikes: ['NMI'], delivered: 'NMI' }),
              step(3, HANDLER, 0, 1, { delivered: '#PF (error 0x0)' }),
              ...Array.from({ length: 40 }, (_, i) => step(4 + i, HANDLER, 0, 2)),
            ],
            omitted: 12,
            ending: 'triple fault: the processor shuts down',
            end: HANDLER,
          },
        },
        {},
      ],
    },
    {
      report: { ...sampleSubject, subject: 'sound', verdict: 'clean', findings: [], notes: [], visits: [] },
      told: [],
    },
  ],
};
