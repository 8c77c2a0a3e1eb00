/** The instructions that fixtures/native-instruction runs on the processor itself, on ours: arch's meaning of each. */
import { decode } from '../isa/decode/decode.ts';
import { readFlags, writeFlags } from '../isa/flags.ts';
import {
  CODE,
  MEMORY,
  MEMORY_BYTES,
  type NativeCase,
  type NativeState,
} from '../isa/float/native.fixture.ts';
import { RAX, RDX, RSI } from '../isa/state.ts';
import { Fixture, FREE, faultOf } from './cpu.fixture.ts';
import { fxrstor, fxsave } from './extended-state.ts';
import { instruction, memory } from './instruction.fixture.ts';
import { instructions } from './instructions.ts';

const IMAGE_LINEAR = 0x2000_0000n;
const IMAGE_PHYSICAL = FREE + 0x2000;

/** A processor in 64-bit mode at CPL 0 with MEMORY and a page for images mapped. */
export function processor(): Fixture {
  const f = new Fixture().enter('64-bit').enablePaging();
  f.map(MEMORY, FREE)
    .map(MEMORY + 0x1000n, FREE + 0x1000)
    .map(IMAGE_LINEAR, IMAGE_PHYSICAL);
  f.cpu.cr4 |= 0x600n;
  f.cpu.cr0 |= 0x22n;
  return f;
}

/** The instruction on our processor. */
export function ours(f: Fixture, one: NativeCase): NativeState {
  const { cpu, bus } = f;
  for (let i = 0; i < 512; i++) bus.view.setUint8(IMAGE_PHYSICAL + i, one.image[i]);
  const bytes = one.memory ?? new Uint8Array(MEMORY_BYTES);
  for (let i = 0; i < bytes.length; i++) bus.view.setUint8(FREE + i, bytes[i]);
  const image = instruction('fxrstor', [memory(IMAGE_LINEAR)], { operandSize: 64 });
  fxrstor(cpu, image);
  const upper = new BigUint64Array((one.upper ?? new Uint8Array(48)).slice().buffer);
  for (let i = 0; i < 6; i++) cpu.ymm[4 * (i >> 1) + 2 + (i & 1)] = upper[i];
  cpu.gpr[RAX] = one.rax ?? 0n;
  cpu.gpr[RDX] = one.rdx ?? 0n;
  cpu.gpr[RSI] = MEMORY;
  writeFlags(cpu, 0x202n);
  const decoded = decode(Uint8Array.from([...one.code, ...new Array(15).fill(0xc3)]), 0, 15, 64);
  if (!decoded) throw new Error('not decoded');
  cpu.rip = CODE + BigInt(decoded.length);
  const meaning = instructions[decoded.mnemonic as keyof typeof instructions];
  const fault = meaning ? faultOf(() => meaning(cpu, decoded)) : { vector: 6 };
  fxsave(cpu, image);
  const read = (from: number, size: number) =>
    Uint8Array.from({ length: size }, (_, i) => bus.view.getUint8(from + i));
  return {
    image: read(IMAGE_PHYSICAL, 512),
    memory: read(FREE, MEMORY_BYTES),
    rax: cpu.gpr[RAX],
    rdx: cpu.gpr[RDX],
    upper: new Uint8Array(
      BigUint64Array.from({ length: 6 }, (_, i) => cpu.ymm[4 * (i >> 1) + 2 + (i & 1)]).buffer,
    ),
    rflags: readFlags(cpu),
    trap: fault?.vector ?? -1,
  };
}
