/** `espfix check`: its table, its JSON against the published schema, and its exit status. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import type { CheckJson } from '../check/json.ts';
import { variantNames } from '../kernel/variants/index.ts';
import { capturedIo } from './io.fixture.ts';
import { espfix } from './program.ts';

const schema = JSON.parse(readFileSync(new URL('../../docs/check.schema.json', import.meta.url), 'utf8'));
const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(schema);

async function run(...args: string[]) {
  const io = capturedIo('');
  const status = await espfix(['check', ...args], io);
  return { status, out: io.out(), err: io.err() };
}

describe('all variants', () => {
  it('are as documented, exit status 0, in JSON that its schema allows', async () => {
    const { status, out } = await run('--format', 'json', '--cpus', '1');
    const result = JSON.parse(out) as CheckJson;
    expect(validate(result), JSON.stringify(validate.errors)).toBe(true);
    expect(result.variants.map((v) => v.name)).toEqual(variantNames);
    for (const v of result.variants) expect(v.verdict).toBe(v.documented);
    expect([status, result.ok]).toEqual([0, true]);
  });
});

describe('named variants', () => {
  it.each([
    [['linux'], 0],
    [['none'], 1],
    [['linux', 'prototype'], 1],
    [['linux', 'linux'], 0],
  ])('%j exits with %i', async (names, expected) => {
    const { status, out } = await run('--format', 'json', '--cpus', '1', '--variant', ...names);
    const result = JSON.parse(out) as CheckJson;
    expect(validate(result), JSON.stringify(validate.errors)).toBe(true);
    expect(result.variants.map((v) => v.name)).toEqual([...new Set(names)]);
    expect([status, result.ok]).toEqual([expected, expected === 0]);
  });

  it('make a table without colour where nobody watches, with progress beside it', async () => {
    const { out, err } = await run('--variant', 'none', '--cpus', '1');
    expect(out).not.toContain('\u001b');
    expect(out).toMatch(/│ 16-bit LDT +│ 16-bit LDT +│ kernel +│/);
    expect(out).toMatch(/│ 64-bit +│ 16-bit LDT +│ own +│/);
    expect(out).toMatch(/│ verdict +│ leaks +│/);
    expect(err).toContain('checking none');
  });
});

describe('the schema', () => {
  const good = {
    ok: true,
    variants: [
      {
        name: 'x',
        title: '',
        verdict: 'safe',
        documented: 'safe',
        ended: 'completed',
        cpus: 1,
        missing: 0,
        cases: [
          {
            cpu: 0,
            path: 'int80',
            cs: 'cs64',
            ss: 'flat',
            name: null,
            esp: { set: '0x00000001', seen: '0x00000001' },
            found: 'own',
            result: 'own',
            ok: true,
          },
        ],
        cost: { ordinaryReturn: 0, return16: null, pageTablePages: 0, ministackPages: 0 },
        aliases: [],
        capacity: null,
        oopses: [],
        interrupted: { events: ['nmi'], experiments: 1, visits: 1, findings: [] },
      },
    ],
  };

  it('allows a small result', () => {
    expect(validate(good)).toBe(true);
  });

  it.each<[string, (result: typeof good) => void]>([
    ['another verdict', (r) => (r.variants[0].verdict = 'fine')],
    ['a short ESP', (r) => (r.variants[0].cases[0].esp.set = '0x1')],
    ['an unknown finding', (r) => (r.variants[0].cases[0].found = 'maybe')],
    ['an unknown field', (r) => Object.assign(r.variants[0], { more: 1 })],
    ['a missing field', (r) => Reflect.deleteProperty(r.variants[0], 'cost')],
    ['no variant', (r) => r.variants.splice(0)],
  ])('refuses %s', (_name, spoil) => {
    const result = structuredClone(good);
    spoil(result);
    expect(validate(result)).toBe(false);
  });
});
