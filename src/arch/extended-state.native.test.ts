/** FXSAVE, FXRSTOR, the XSAVE feature set, LDMXCSR and STMXCSR compared with the processor's own. */
import { expect, it } from 'vitest';
import { F80 } from '../isa/float/format.ts';
import {
  describeNative,
  generator,
  hex,
  hostHas,
  IMAGE,
  initialImage,
  interestingFloat,
  MEMORY_BYTES,
  type NativeCase,
  type NativeState,
  type Picker,
  setRegister,
} from '../isa/float/native.fixture.ts';
import { ours, processor } from './native.fixture.ts';

const CASES = Number(process.env.ESPFIX_FLOAT_CASES ?? 20);

/**
 * An image whose components are now and then in their initial configurations, unless `used`: then the processor may say that
 * they are in use, as it need not follow what they are.
 */
function randomImage(pick: Picker, used: boolean): Uint8Array {
  const { bytes, view } = initialImage();
  if (used || pick(3)) {
    view.setUint16(IMAGE.fcw, pick(0x10000), true);
    view.setUint16(IMAGE.fsw, pick(0x10000), true);
    view.setUint8(IMAGE.ftw, pick(256));
    view.setUint16(IMAGE.fop, pick(0x10000), true);
    view.setBigUint64(IMAGE.fip, BigInt(pick(2 ** 32)) | (BigInt(pick(0x8000)) << 32n), true);
    view.setBigUint64(IMAGE.fdp, BigInt(pick(2 ** 32)) | (BigInt(pick(0x8000)) << 32n), true);
    for (let i = 0; i < 8; i++) {
      setRegister(view, i, interestingFloat(pick, F80));
    }
  }
  if (pick(3)) view.setUint32(IMAGE.mxcsr, pick(0x10000), true);
  if (used || pick(3)) for (let i = 0; i < 256; i++) bytes[IMAGE.xmm + i] = pick(256);
  return bytes;
}

/** x87, SSE and, where the host has it, AVX. */
const components = hostHas('avx') ? 7 : 3;

/** An area of memory for RSTOR instructions, nearly always a valid one. */
function randomArea(pick: Picker): Uint8Array {
  const area = new Uint8Array(MEMORY_BYTES);
  for (let i = 0; i < 832; i++) area[i] = pick(256);
  area.set(randomImage(pick, false).subarray(0, 416));
  area.fill(0, 512, 576);
  const view = new DataView(area.buffer);
  view.setBigUint64(512, BigInt(pick(components + 1)), true);
  if (pick(2))
    view.setBigUint64(520, (1n << 63n) | BigInt(pick(3) ? components : pick(components + 1)), true);
  // Components that neither processor has, and bytes that must be 0.
  if (pick(6) === 0) area[512 + [3, 11, 16 + pick(48)][pick(3)]] ^= 1 << pick(8);
  if (pick(8) === 0) view.setUint32(IMAGE.mxcsr, pick(2 ** 32), true);
  return area;
}

/** What can be told of an outcome: after a fault, not what the signal frame adds to the image. */
function outcome(state: NativeState) {
  return {
    trap: state.trap,
    x87: hex(state.image.subarray(0, 24)),
    mxcsr: hex(state.image.subarray(24, 28)),
    registers: hex(state.image.subarray(32, 160)),
    vectors: hex(state.image.subarray(160, 416)),
    memory: hex(state.memory.subarray(0, 160)),
    memoryVectors: hex(state.memory.subarray(160, 512)),
    header: hex(state.memory.subarray(512, 576)),
    memoryUpper: hex(state.memory.subarray(576, 624)),
    // Not recorded of a fault.
    upper: state.trap < 0 ? hex(state.upper) : '',
  };
}

const rm = (reg: number) => (reg << 3) | 6;
const forms: readonly { name: string; code: readonly number[]; feature?: string; loads?: boolean }[] = [
  { name: 'fxsave', code: [0x0f, 0xae, rm(0)] },
  { name: 'fxsave64', code: [0x48, 0x0f, 0xae, rm(0)] },
  { name: 'fxrstor', code: [0x0f, 0xae, rm(1)], loads: true },
  { name: 'fxrstor64', code: [0x48, 0x0f, 0xae, rm(1)], loads: true },
  { name: 'ldmxcsr', code: [0x0f, 0xae, 0x56, 24], loads: true },
  { name: 'stmxcsr', code: [0x0f, 0xae, rm(3)] },
  { name: 'xsave', code: [0x0f, 0xae, rm(4)], feature: 'xsave' },
  { name: 'xsave64', code: [0x48, 0x0f, 0xae, rm(4)], feature: 'xsave' },
  { name: 'xrstor', code: [0x0f, 0xae, rm(5)], feature: 'xsave', loads: true },
  { name: 'xrstor64', code: [0x48, 0x0f, 0xae, rm(5)], feature: 'xsave', loads: true },
  { name: 'xsavec64', code: [0x48, 0x0f, 0xc7, rm(4)], feature: 'xsavec' },
  { name: 'fxsave, misaligned', code: [0x0f, 0xae, 0x46, 8] },
  { name: 'xsave, misaligned', code: [0x0f, 0xae, 0x66, 16], feature: 'xsave' },
];

describeNative('saving and restoring is that of the processor', (native) => {
  const f = processor();
  f.cpu.cr4 |= 1n << 18n;
  f.cpu.xcr0 = BigInt(components);
  for (const form of forms) {
    it.skipIf(form.feature !== undefined && !hostHas(form.feature))(form.name, () => {
      const pick = generator(form.name.length * 97 + form.code[form.code.length - 1]);
      const cases = Array.from({ length: CASES }, (): NativeCase => {
        const memory = form.loads ? randomArea(pick) : new Uint8Array(MEMORY_BYTES).fill(0xa5);
        // The standard header of an area that is saved to has zeros where they must be.
        if (!form.loads) memory.fill(0, 512, 576);
        const upper = Uint8Array.from({ length: 48 }, () => pick(256));
        return {
          code: form.code,
          image: randomImage(pick, true),
          memory,
          rax: BigInt(pick(components + 1)),
          rdx: 0n,
          ...(components & 4 ? { upper } : {}),
        };
      });
      const results = native.run(cases);
      cases.forEach((one, i) => {
        const say = { mine: outcome(ours(f, one)), theirs: outcome(results[i]) };
        expect(say.mine, `case ${i}: rax ${one.rax}, ${hex(one.image.subarray(0, 32))}`).toEqual(say.theirs);
      });
    });
  }
});
