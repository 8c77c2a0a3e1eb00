/** Descriptors, gates and the 64-bit TSS as bit patterns. SDM Vol. 3A, Sections 3.4.5, 6.14.1, 7.2.3, 7.7. */
import { describe, expect, it } from 'vitest';
import { interruptGate, segmentDescriptor, systemDescriptor, taskStateSegment } from './descriptors.ts';

const flat = { limit: 0xfffff, pages: true } as const;

describe('segmentDescriptor (SDM Vol. 3A, Section 3.4.5)', () => {
  it.each([
    [
      'flat 32-bit code, DPL 0',
      segmentDescriptor({ kind: 'code32', ...flat, dpl: 0 }),
      0x00cf_9b00_0000_ffffn,
    ],
    ['flat data, DPL 3', segmentDescriptor({ kind: 'data32', ...flat, dpl: 3 }), 0x00cf_f300_0000_ffffn],
    ['64-bit code, DPL 3', segmentDescriptor({ kind: 'code64', limit: 0, dpl: 3 }), 0x0020_fb00_0000_0000n],
    ['a 16-bit stack', segmentDescriptor({ kind: 'data16', limit: 0xffff, dpl: 3 }), 0x0000_f300_0000_ffffn],
    [
      '16-bit code with a base',
      segmentDescriptor({ kind: 'code16', base: 0x1234_5678, limit: 0xffff, dpl: 3 }),
      0x1200_fb34_5678_ffffn,
    ],
    [
      'read-only data',
      segmentDescriptor({ kind: 'read-only16', limit: 0xffff, dpl: 3 }),
      0x0000_f100_0000_ffffn,
    ],
    [
      'a segment that is not present',
      segmentDescriptor({ kind: 'data16', limit: 0xffff, dpl: 3, present: false }),
      0x0000_7300_0000_ffffn,
    ],
  ])('%s', (_, descriptor, expected) => {
    expect(descriptor).toBe(expected);
  });
});

describe('system descriptors and gates of IA-32e mode', () => {
  it('puts a 64-bit base into 16 bytes (Figure 7-4)', () => {
    expect(systemDescriptor('tss', 0xffff_ffff_8012_3300n, 0x67)).toEqual([
      0x8000_8912_3300_0067n,
      0xffff_ffffn,
    ]);
    expect(systemDescriptor('ldt', 0x1_0200_0000n, 0xff)).toEqual([0x0200_8200_0000_00ffn, 1n]);
  });
  it('puts a 64-bit offset and an IST index into a gate (Figure 6-8)', () => {
    expect(interruptGate(0x10, 0xffff_ffff_8010_1234n, 3, 2)).toEqual([0x8010_ee02_0010_1234n, 0xffff_ffffn]);
  });
  it('lays out the 64-bit TSS (Figure 7-11)', () => {
    const view = new DataView(taskStateSegment(0x1122n, [1n, 2n]).buffer);
    expect(view.byteLength).toBe(104);
    expect([view.getBigUint64(4, true), view.getBigUint64(36, true), view.getBigUint64(44, true)]).toEqual([
      0x1122n,
      1n,
      2n,
    ]);
    expect(view.getUint16(102, true)).toBe(104);
  });
});
