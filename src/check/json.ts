/** The result of a check as `espfix check --format json` prints it. Its schema is docs/check.schema.json. */
import type { Verdict } from './check-variant.ts';
import type { SummarizedVariant } from './summary.ts';

export interface CheckJson {
  readonly variants: readonly {
    readonly name: string;
    readonly title: string;
    readonly verdict: Verdict;
    readonly documented: Verdict;
    readonly ended: string;
    readonly cpus: number;
    readonly missing: number;
    readonly cases: readonly {
      readonly cpu: number;
      readonly path: string;
      readonly cs: string;
      readonly ss: string;
      readonly name: string | null;
      /** 32-bit values, `0x` and 8 hexadecimal digits. */
      readonly esp: { readonly set: string; readonly seen: string };
      readonly found: string;
      readonly result: string;
      readonly ok: boolean;
    }[];
    readonly cost: {
      readonly ordinaryReturn: number | null;
      readonly return16: number | null;
      readonly pageTablePages: number;
      readonly ministackPages: number;
    };
    readonly aliases: readonly {
      readonly cpu: number;
      readonly mapped: number;
      readonly writable: number;
      readonly of: number;
    }[];
    readonly capacity: {
      readonly slot: number;
      readonly aliases: number;
      readonly ministack: number;
      readonly cpus: number;
    } | null;
    readonly oopses: readonly {
      readonly vector: number;
      readonly error: string;
      readonly at: string;
      readonly rip: string;
      readonly rsp: string;
      readonly cr2: string;
    }[];
    readonly interrupted: {
      readonly events: readonly string[];
      readonly experiments: number;
      readonly visits: number;
      readonly findings: readonly {
        readonly property: string;
        readonly what: string;
        readonly entry: string;
        readonly struck: readonly { readonly event: string; readonly at: string }[];
        readonly count: number;
      }[];
    };
  }[];
  readonly ok: boolean;
}

const hex = (value: number | bigint, digits: number) => `0x${value.toString(16).padStart(digits, '0')}`;

/** @param ok the command's judgement of all of it: that it exits with 0 */
export function toJson(variants: readonly SummarizedVariant[], ok: boolean): CheckJson {
  return {
    variants: variants.map((v) => ({
      name: v.name,
      title: v.title,
      verdict: v.verdict,
      documented: v.documented,
      ended: v.ended,
      cpus: v.cpus,
      missing: v.missing,
      cases: v.cases.map((c) => ({
        cpu: c.cpu,
        path: c.path,
        cs: c.cs,
        ss: c.ss,
        name: c.name === '-' ? null : c.name,
        esp: { set: hex(c.esp.set, 8), seen: hex(c.esp.seen, 8) },
        found: c.found,
        result: c.result,
        ok: c.ok,
      })),
      cost: {
        ordinaryReturn: v.cost.ordinaryReturn ?? null,
        return16: v.cost.return16 ?? null,
        pageTablePages: v.cost.pageTablePages,
        ministackPages: v.cost.ministackPages,
      },
      aliases: v.aliases,
      capacity: v.capacity ? { ...v.capacity, slot: Number(v.capacity.slot) } : null,
      oopses: v.oopses.map((o) => ({
        vector: o.vector,
        error: hex(o.error, 4),
        at: o.at,
        rip: hex(o.rip, 16),
        rsp: hex(o.rsp, 16),
        cr2: hex(o.cr2, 16),
      })),
      interrupted: {
        events: v.interrupted.events,
        experiments: v.interrupted.experiments,
        visits: v.interrupted.visits,
        findings: [...v.interrupted.withoutEvents, ...v.interrupted.findings].map((f) => ({
          property: f.property,
          what: f.what,
          entry: f.visit.entry,
          struck: f.struck.map(({ event, place }) => ({ event, at: place.name })),
          count: f.count,
        })),
      },
    })),
    ok,
  };
}
