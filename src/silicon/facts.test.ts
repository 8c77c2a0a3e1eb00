/**
 * What the fuzzer once found silicon to do otherwise than the manual lets one think, or says only in passing: each as a
 * case with the processor's answer (Intel family 6 model 207), on the machine everywhere and natively where possible.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  CASE,
  type Case,
  decodeResult,
  encodeCase,
  KIND_EXCEPTION,
  KIND_TIMEOUT,
  PATCH_BYTES,
  RESULT,
  type Result,
} from './batch.ts';
import { makePattern } from './generate.ts';
import { CODE, CODE_BYTES, SCRATCH, slotOffset } from './layout.ts';
import { NativeRunner } from './native.node.ts';
import { nativeHere } from './require-native.fixture.ts';
import { Target } from './target.ts';

const SEED = 1;
const RIP = CODE + slotOffset(0);
const STACK = BigInt(SCRATCH + 0x1000);
const HIGH = 0xabcd_0000_0000_0000n;

interface Fact {
  readonly name: string;
  readonly bytes: readonly number[];
  readonly cs: number;
  readonly state?: Partial<Omit<Case, 'gpr'>> & { readonly gpr?: Readonly<Record<number, bigint>> };
  /** Vector, error code, and what else of the result matters. */
  readonly vector: number;
  readonly error?: number;
  readonly result?: (result: Result) => unknown;
  readonly wanted?: unknown;
  /** Why it cannot be run natively. */
  readonly machineOnly?: string;
}

/** Quadwords as a case's memory content. */
function words(...values: bigint[]): Uint8Array {
  const bytes = new Uint8Array(PATCH_BYTES);
  values.forEach((value, i) => {
    new DataView(bytes.buffer).setBigUint64(i * 8, value, true);
  });
  return bytes;
}

const RAX = 0, RCX = 1, RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7; // biome-ignore format: register numbers

const facts: readonly Fact[] = [
  {
    name: 'CMPS reads ES:rDI before DS:rSI',
    bytes: [0xa6],
    cs: 0x33,
    state: { gpr: { [RSI]: 0x60_0000n, [RDI]: 0x70_0000n } },
    vector: 14,
    error: 4,
    result: ({ cr2 }) => cr2,
    wanted: 0x70_0000n,
  },
  {
    name: 'REP MOVS with 32-bit addresses clears bits 63:32 even if its first access faults',
    bytes: [0x67, 0xf3, 0xa4],
    cs: 0x33,
    state: { gpr: { [RCX]: HIGH + 3n, [RSI]: HIGH + 0x60_0000n, [RDI]: HIGH + 0x60_0000n } },
    vector: 14,
    error: 4,
    result: ({ gpr }) => [gpr[RCX], gpr[RSI], gpr[RDI]],
    wanted: [3n, 0x60_0000n, 0x60_0000n],
  },
  {
    name: 'REP LODS with 32-bit addresses clears those of RCX alone',
    bytes: [0x67, 0xf3, 0xac],
    cs: 0x33,
    state: { gpr: { [RCX]: HIGH + 3n, [RSI]: HIGH + 0x60_0000n } },
    vector: 14,
    error: 4,
    result: ({ gpr }) => [gpr[RCX], gpr[RSI]],
    wanted: [3n, HIGH + 0x60_0000n],
  },
  {
    name: 'REP INS with a count of zero needs permission for its port',
    bytes: [0xf3, 0x6c],
    cs: 0x33,
    state: { gpr: { [RCX]: 0n } },
    vector: 13,
  },
  {
    name: 'BOUND does not read the upper bound if the lower is not met',
    bytes: [0x62, 0x03],
    cs: 0x23,
    // The read-only page, and mapped memory, end between the two. Any lower bound is above the least integer.
    state: { gpr: { [RBX]: BigInt(SCRATCH + 0x2ffc), [RAX]: 0x8000_0000n } },
    vector: 5,
  },
  {
    name: 'accesses run on past the end of a flat 32-bit segment',
    bytes: [0x8b, 0x03],
    cs: 0x23,
    state: { gpr: { [RBX]: 0xffff_fffen } },
    vector: 14,
    error: 4,
    result: ({ cr2 }) => cr2,
    wanted: 0xffff_fffen,
  },
  {
    name: 'but not past the end of an expand-down one',
    bytes: [0x8b, 0x03],
    cs: 0x23,
    state: { ds: 0x47, gpr: { [RBX]: 0xffff_fffen } },
    vector: 13,
  },
  {
    name: 'CLFLUSH may go through an execute-only segment',
    bytes: [0x2e, 0x0f, 0xae, 0x3b],
    cs: 0x5f,
    state: { gpr: { [RBX]: BigInt(CODE) } },
    vector: 3,
  },
  {
    name: 'a load may not',
    bytes: [0x2e, 0x8a, 0x03],
    cs: 0x5f,
    state: { gpr: { [RBX]: BigInt(CODE) } },
    vector: 13,
  },
  { name: 'MOV DR5 at CPL 3 is #GP, whatever CR4.DE', bytes: [0x0f, 0x21, 0xe8], cs: 0x23, vector: 13 },
  { name: 'MOV DR8 is #UD', bytes: [0x44, 0x0f, 0x21, 0xc0], cs: 0x33, vector: 6 },
  {
    name: 'a misaligned access into the non-canonical hole is #AC where that is armed',
    bytes: [0x48, 0x8b, 0x03],
    cs: 0x33,
    state: { rflags: 0x40202n, gpr: { [RBX]: 0x7fff_ffff_ffffn } },
    vector: 17,
  },
  {
    name: 'far CALL has pushed CS when there is no room for EIP',
    bytes: [0x9a, 0x00, 0x00, 0x40, 0x00, 0x23, 0x00],
    cs: 0x23,
    // A 16-bit stack: CS at offset 2, EIP across the end of the segment.
    state: { ss: 0x3f, gpr: { [RSP]: 0x51_0006n }, patch: words(0xffff_ffff_ffff_ffffn) },
    vector: 12,
    result: ({ changed, words: [first, second] }) => [changed, first.value >>> 16, second.value & 0xffff],
    wanted: [2, 0x23, 0],
  },
  {
    name: 'a single-step trap comes before the fault of fetching what the branch leads to',
    bytes: [0xff, 0xe3],
    cs: 0x33,
    state: { rflags: 0x302n, gpr: { [RBX]: 0x60_0000n } },
    vector: 1,
    result: ({ rip }) => rip,
    wanted: 0x60_0000n,
  },
  {
    name: 'ROL of memory by an immediate above 1 sets OF as by 1',
    bytes: [0xc1, 0x03, 0x02],
    cs: 0x33,
    state: { gpr: { [RBX]: BigInt(SCRATCH) }, patch: words(0x8000_8081n) },
    vector: 3,
    result: ({ rflags }) => rflags & 0x800n,
    wanted: 0x800n,
  },
  {
    name: 'ROL of a register by such an immediate keeps OF',
    bytes: [0xc1, 0xc0, 0x02],
    cs: 0x33,
    state: { gpr: { [RAX]: 0x8000_8081n } },
    vector: 3,
    result: ({ rflags }) => rflags & 0x800n,
    wanted: 0n,
  },
  {
    name: 'POP from a 16-bit stack keeps ESP[31:16]',
    bytes: [0x58],
    cs: 0x23,
    state: { ss: 0x3f, gpr: { [RSP]: 0x51_1000n, [RBP]: 0n } },
    vector: 3,
    result: ({ gpr }) => gpr[RSP],
    wanted: 0x51_1004n,
  },
  {
    name: 'IRETQ reads RSP and SS with alignment checked as the flags in its frame have AC',
    bytes: [0x48, 0xcf],
    cs: 0x33,
    state: {
      gpr: { [RSP]: BigInt(SCRATCH + 4) },
      patchAt: 4,
      patch: words(BigInt(RIP + 2), 0x33n, 0x40202n, STACK, 0x2bn),
    },
    vector: 17,
    machineOnly: 'Linux takes this #AC for a split lock, and retries for ever',
  },
];

function caseOf(fact: Fact): Uint8Array {
  const bytes = new Uint8Array(CASE.size);
  const gpr = Array.from({ length: 16 }, (_, i) => fact.state?.gpr?.[i] ?? 0n);
  if (fact.state?.gpr?.[RSP] === undefined) gpr[RSP] = STACK;
  encodeCase(new DataView(bytes.buffer), 0, {
    rflags: 0x202n,
    rip: BigInt(RIP),
    fsBase: 0n,
    gsBase: 0n,
    cs: fact.cs,
    ss: 0x2b,
    ds: 0x2b,
    es: 0x2b,
    fs: 0,
    gs: 0,
    patchAt: 0,
    patch: new Uint8Array(PATCH_BYTES),
    ...fact.state,
    gpr,
  });
  return bytes;
}

function codeOf(fact: Fact): Uint8Array {
  const code = new Uint8Array(CODE_BYTES).fill(0xcc);
  code.set(fact.bytes, slotOffset(0));
  return code;
}

function judge(fact: Fact, result: Result): void {
  expect({ kind: result.kind, vector: result.trapno, error: result.err }).toEqual({
    kind: KIND_EXCEPTION,
    vector: fact.vector,
    error: fact.error ?? 0,
  });
  if (fact.result) expect(fact.result(result)).toEqual(fact.wanted);
}

describe('on the machine', () => {
  const target = new Target(makePattern(SEED), { rights: 0, limit: 0 });
  test.each(facts)('$name', (fact) => {
    const results = new Uint8Array(RESULT.size);
    target.load(codeOf(fact));
    target.run(new DataView(caseOf(fact).buffer), 0, new DataView(results.buffer), 0);
    judge(fact, decodeResult(new DataView(results.buffer), 0));
  });
});

describe.runIf(nativeHere())('on this processor', () => {
  let native: NativeRunner;
  beforeAll(async () => {
    native = await NativeRunner.start(makePattern(SEED));
  });
  afterAll(() => native.close());
  test.each(facts.filter(({ machineOnly }) => !machineOnly))('$name', async (fact) => {
    const results = await native.run(codeOf(fact), caseOf(fact), 1);
    judge(fact, decodeResult(new DataView(results.buffer, results.byteOffset), 0));
  });

  test('the watchdog ends a case that does not end, and the next one runs', async () => {
    const forever: Fact = { name: '', bytes: [0xeb, 0xfe], cs: 0x33, vector: 0 };
    const cases = new Uint8Array(2 * CASE.size);
    cases.set(caseOf(forever));
    cases.set(caseOf({ ...forever, state: { rip: BigInt(RIP + 2) } }), CASE.size);
    const results = await native.run(codeOf(forever), cases, 2);
    const view = new DataView(results.buffer, results.byteOffset);
    expect(decodeResult(view, 0).kind).toBe(KIND_TIMEOUT);
    expect(decodeResult(view, RESULT.size)).toMatchObject({ kind: KIND_EXCEPTION, trapno: 3 });
  });
});
