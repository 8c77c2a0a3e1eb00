/** The machine as its users see it: images boot, run, stop for every reason, and are looked into. */
import { describe, expect, it } from 'vitest';
import { ImageError, Machine, type MachineOptions, type Stop } from '../index.ts';
import {
  echoImage,
  helloImage,
  ioApicTimerImage,
  localTimerImage,
  MSR_IMAGE,
  nmiImage,
  pagingImage,
  picTimerImage,
  twoProcessorImage,
  userImage,
} from './guests.fixture.ts';
import { Code, elf, multibootHeader, multibootImage } from './image.fixture.ts';

function boot(
  image: Uint8Array,
  options: MachineOptions = { memory: 4 },
): { machine: Machine; output: () => string } {
  const machine = Machine.create(options);
  machine.boot(image);
  let output = '';
  machine.serial.onOutput = (byte) => {
    output += String.fromCharCode(byte);
  };
  return { machine, output: () => output };
}

const run = (code: (c: Code) => Code): Stop =>
  boot(multibootImage(code(new Code()))).machine.run({ maxInstructions: 100_000 });

describe('booting', () => {
  it('a Multiboot image prints on COM1 and exits', () => {
    const { machine, output } = boot(helloImage());
    expect(machine.run()).toEqual({ reason: 'exit', status: 11, value: 5 });
    expect(output()).toBe('hello\n');
  });

  it('hands over the state that Multiboot promises', () => {
    const { machine } = boot(helloImage());
    const { rax, rip, cr0, rflags, cs, ...rest } = machine.registers();
    expect({ rax, rip, cr0, rflags, cs }).toEqual({
      rax: 0x2bad_b002n,
      rip: 0x10_0000n,
      cr0: 0x11n,
      rflags: 2n,
      cs: 8n,
    });
    expect([rest['cs.base'], rest['cs.limit'], rest['ds.limit'], rest['gdtr.limit']]).toEqual([
      0n,
      0xffff_ffffn,
      0xffff_ffffn,
      0n,
    ]);
  });

  it('an ELF64 through Multiboot, and one through PVH, both in 32-bit code', () => {
    const code = new Code().put('x').exit(6);
    const segment = { physical: code.origin, bytes: code.finish() };
    const note = Uint8Array.of(4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 0x58, 0x65, 0x6e, 0, 0, 0, 0x10, 0);
    for (const image of [
      elf(64, BigInt(code.origin), [segment], multibootHeader(0)),
      elf(64, BigInt(code.origin), [segment, { physical: 0, bytes: note, type: 4 }]),
    ]) {
      const { machine, output } = boot(image);
      expect(machine.run()).toMatchObject({ reason: 'exit', value: 6 });
      expect(output()).toBe('x');
    }
  });

  it('again starts from power-on', () => {
    const { machine } = boot(helloImage());
    machine.run();
    machine.writePhysical(0x30_0000, Uint8Array.of(1));
    const first = machine.instructions;
    machine.boot(helloImage());
    expect([machine.instructions, machine.time(), machine.readPhysical(0x30_0000, 1)[0]]).toEqual([0, 0, 0]);
    machine.run();
    expect(machine.instructions).toBe(first);
  });

  it('an image that cannot be booted leaves the machine alone', () => {
    const { machine } = boot(helloImage());
    machine.run({ maxInstructions: 3 });
    expect(() => machine.boot(new Uint8Array(10))).toThrow(ImageError);
    expect(machine.instructions).toBe(3);
  });
});

describe('options', () => {
  it.each<[MachineOptions, RegExp]>([
    [{ cpus: 0 }, /^cpus: 0, expected a whole number from 1 to 64$/],
    [{ cpus: 65 }, /^cpus/],
    [{ cpus: 1.5 }, /^cpus/],
    [{ memory: 0 }, /^memory: 0, expected/],
    [{ memory: 3073 }, /^memory/],
    [{ quantum: 0 }, /^quantum/],
    [{ seed: -1 }, /^seed/],
    [{ seed: Number.NaN }, /^seed/],
  ])('%o is refused', (options, message) => {
    expect(() => Machine.create(options)).toThrow(message);
  });

  it.each([-1, Number.NaN])('a run of %s instructions is refused', (maxInstructions) => {
    expect(() => Machine.create().run({ maxInstructions })).toThrow(
      /^maxInstructions: .*expected 0 or more$/,
    );
  });

  it('an event that there is not is refused', () => {
    expect(() => Machine.create().on('explode' as 'deliver', () => {})).toThrow(
      /^no event is named explode$/,
    );
  });
});

describe('why a run ends', () => {
  it('the debug-exit port, of any width', () => {
    expect(run((c) => c.exit(0x8000_0000))).toEqual({
      reason: 'exit',
      value: 0x8000_0000,
      status: 0x1_0000_0001,
    });
    expect(run((c) => c.out(0xf4, 0x10))).toMatchObject({ status: 0x21 });
  });
  it('a triple fault', () => {
    expect(run((c) => c.bytes(0x0f, 0x0b))).toEqual({ reason: 'triple-fault', cpu: 0, rip: 0x10_0000n });
  });
  it('an instruction that the machine does not have: VMOVDQU64', () => {
    const stop = run((c) => c.bytes(0x90, 0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x00));
    expect(stop).toMatchObject({ reason: 'unimplemented', cpu: 0, rip: 0x10_0001n });
    expect([...(stop as { bytes: Uint8Array }).bytes]).toEqual([0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x00]);
  });
  it('the limit', () => {
    const { machine } = boot(multibootImage(new Code().spin()));
    expect(machine.run({ maxInstructions: 12_345 })).toEqual({ reason: 'limit' });
    expect(machine.instructions).toBe(12_345);
  });
  it.each([
    ['HLT with interrupts off', [0xfa, 0xf4], /^CPU 0 is halted with RFLAGS.IF = 0$/],
    ['HLT with interrupts on and no timer', [0xfb, 0xf4], /^CPU 0 is halted and no interrupt will come$/],
  ])('deadlock: %s', (_name, bytes, message) => {
    const stop = run((c) => c.bytes(...bytes));
    expect(stop).toMatchObject({ reason: 'deadlock' });
    expect((stop as { message: string }).message).toMatch(message);
  });
  it('deadlock: a timer that is masked at the 8259 does not keep it alive', () => {
    // Counter 0, mode 2, count 100.
    expect(run((c) => c.out(0x43, 0x34).out(0x40, 100).out(0x40, 0).bytes(0xfb, 0xf4)).reason).toBe(
      'deadlock',
    );
  });
  it('a reset by port CF9H', () => {
    expect(run((c) => c.out(0xcf9, 6))).toEqual({ reason: 'reset' });
  });
  it('a condition', () => {
    const { machine, output } = boot(helloImage());
    machine.trace = () => {};
    expect(machine.run({ until: () => output().length === 2 })).toEqual({ reason: 'until' });
    expect(output()).toBe('he');
    expect(machine.run().reason).toBe('exit');
    expect(output()).toBe('hello\n');
  });
  it('a listener to changes of privilege', () => {
    const { machine } = boot(userImage());
    const changes: number[][] = [];
    machine.on('privilege-change', (...change) => {
      changes.push(change);
      machine.stop();
    });
    expect(machine.run({ maxInstructions: 1000 })).toEqual({ reason: 'hook' });
    expect(changes).toEqual([[0, 0, 3]]);
    const { rip, cpl, cs } = machine.registers();
    expect([cpl, cs, machine.readMemory(rip, 2)]).toEqual([3n, 0x1bn, Uint8Array.of(0xeb, 0xfe)]);
  });
  it('a listener', () => {
    const { machine } = boot(helloImage());
    const off = machine.on('port-write', () => machine.stop());
    expect(machine.run()).toEqual({ reason: 'hook' });
    // MOV DX; MOV AL; OUT.
    expect(machine.instructions).toBe(3);
    off();
    expect(machine.run().reason).toBe('exit');
  });
  it('nothing may be asked of a machine that runs, but by listeners to stop', () => {
    const { machine } = boot(helloImage());
    machine.on('port-write', () => machine.snapshot());
    expect(() => machine.run()).toThrow('not while the machine runs');
  });
});

describe('serial input', () => {
  it('is echoed by polling', () => {
    const { machine, output } = boot(echoImage());
    machine.serial.write(new TextEncoder().encode('ab'));
    expect(machine.run({ maxInstructions: 1000 }).reason).toBe('limit');
    expect([output(), machine.serial.waiting]).toEqual(['ab', 0]);
    machine.serial.write(new TextEncoder().encode('q'));
    expect(machine.run({ maxInstructions: 1000 })).toMatchObject({ reason: 'exit' });
  });
});

describe('interrupts', () => {
  it('local APIC timer, one-shot and periodic', () => {
    const { machine, output } = boot(localTimerImage());
    const vectors: number[] = [];
    machine.on(
      'deliver',
      (_cpu, vector, _error, source) => void (source === 'external' && vectors.push(vector)),
    );
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 3 });
    expect(vectors).toEqual([0x40, 0x40, 0x40]);
    expect(output()).toBe('ttt');
    // Halted in between: guest time is that of three periods of 100,000 ticks and the letters, few instructions were executed.
    expect(machine.time()).toBeGreaterThan(300_000);
    expect(machine.time()).toBeLessThan(302_000);
    expect(machine.instructions).toBeLessThan(200);
  });

  it('that a listener stops are delivered when the machine runs on', () => {
    const { machine, output } = boot(localTimerImage());
    let told = 0;
    machine.on('deliver', (_cpu, _vector, _error, source) => source === 'external' && ++told % 2 === 1);
    for (let stops = 0; stops < 3; stops++) {
      expect(machine.run({ maxInstructions: 10_000 }).reason).toBe('hook');
    }
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 3 });
    expect([output(), told]).toEqual(['ttt', 6]);
  });

  it('8254 through the 8259s', () => {
    const { machine, output } = boot(picTimerImage());
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 2 });
    expect(output()).toBe('pp');
    // Two periods of 1193 clocks of 1,193,182 Hz, and some ten accesses to ports.
    expect(Math.abs(machine.time() - 2_000_000)).toBeLessThan(10_000);
  });

  it('8254 through the I/O APIC', () => {
    const { machine, output } = boot(ioApicTimerImage());
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 2 });
    expect(output()).toBe('ii');
  });

  it('an NMI that is injected', () => {
    const { machine, output } = boot(nmiImage());
    expect(machine.run({ maxInstructions: 1000 })).toEqual({ reason: 'limit' });
    machine.injectNmi();
    const seen: unknown[] = [];
    machine.on('deliver', (...event) => void seen.push(event));
    expect(machine.run({ maxInstructions: 1000 })).toMatchObject({ reason: 'exit', value: 7 });
    expect(output()).toBe('n');
    expect(seen).toEqual([[0, 2, undefined, 'nmi']]);
  });

  it('a listener can stop a delivery, which comes again', () => {
    const { machine } = boot(nmiImage());
    machine.run({ maxInstructions: 500 });
    machine.injectNmi();
    const off = machine.on('deliver', () => true);
    const before = machine.registers();
    expect(machine.run()).toEqual({ reason: 'hook' });
    expect(machine.registers()).toEqual(before);
    expect(machine.run()).toEqual({ reason: 'hook' });
    off();
    expect(machine.run({ maxInstructions: 1000 })).toMatchObject({ reason: 'exit', value: 7 });
  });

  it('an interrupt line raised from outside', () => {
    const { machine, output } = boot(picTimerImage({ line: 4 }));
    expect(machine.run({ maxInstructions: 1000 }).reason).toBe('deadlock');
    machine.raiseIrq(4);
    machine.lowerIrq(4);
    // Gone before it was acknowledged: the request has vanished as well.
    expect(machine.run({ maxInstructions: 1000 }).reason).toBe('deadlock');
    machine.raiseIrq(4);
    expect(machine.run({ maxInstructions: 1000 }).reason).toBe('deadlock');
    expect(output()).toBe('p');
    machine.lowerIrq(4);
    machine.raiseIrq(4);
    expect(machine.run({ maxInstructions: 1000 })).toMatchObject({ reason: 'exit', value: 2 });
    expect(() => machine.raiseIrq(24)).toThrow(RangeError);
  });
});

describe('several processors', () => {
  it('INIT and start-up bring the second up', () => {
    const { machine, output } = boot(twoProcessorImage(), { cpus: 2, memory: 4 });
    expect(machine.run({ maxInstructions: 100_000 })).toMatchObject({ reason: 'exit', value: 0x1234 });
    expect(output()).toBe('AB');
    expect(machine.registers(1).rip).toBeGreaterThan(0n);
  });

  it('a start-up IPI to nobody leaves the first waiting for ever', () => {
    const { machine } = boot(twoProcessorImage(), { cpus: 1, memory: 4 });
    expect(machine.run({ maxInstructions: 100_000 }).reason).toBe('limit');
  });

  it('each sees its own local APIC at the same address', () => {
    const { machine } = boot(multibootImage(new Code().load(0xfee0_0020).exit(0)), { cpus: 2, memory: 4 });
    machine.run();
    expect(() => machine.registers(2)).toThrow(RangeError);
  });
});

describe('MSRs of the local APIC through the processor', () => {
  it('x2APIC mode is entered and the ID read', () => {
    expect(boot(MSR_IMAGE).machine.run({ maxInstructions: 1000 })).toMatchObject({
      reason: 'exit',
      value: 0x14,
    });
  });
});

describe('looking and changing', () => {
  it('physical memory', () => {
    const machine = Machine.create({ memory: 1 });
    machine.writePhysical(0xffffe, Uint8Array.of(1, 2));
    expect([...machine.readPhysical(0xffffc, 4)]).toEqual([0, 0, 1, 2]);
    expect(() => machine.readPhysical(0xfffff, 2)).toThrow(RangeError);
    expect(() => machine.writePhysical(-1, Uint8Array.of(1))).toThrow('physical address 0x-1 is not in RAM');
  });

  it('linear memory, through page tables, with no accessed or dirty flag set', () => {
    const { machine } = boot(pagingImage());
    expect(machine.run({ maxInstructions: 10_000 })).toMatchObject({ reason: 'exit', value: 1 });
    machine.writePhysical(0x20_0ffe, Uint8Array.of(0xaa, 0xbb));
    machine.writePhysical(0x20_3000, Uint8Array.of(0xcc));
    const tables = machine.readPhysical(0x1_0000, 0x3000);
    // The page at C0001000H stands at 200000H, the one after at 203000H.
    expect([...machine.readMemory(0xc000_1ffen, 3)]).toEqual([0xaa, 0xbb, 0xcc]);
    machine.writeMemory(0xc000_1fffn, Uint8Array.of(0xdd, 0xee));
    expect([machine.readPhysical(0x20_0fff, 1)[0], machine.readPhysical(0x20_3000, 1)[0]]).toEqual([
      0xdd, 0xee,
    ]);
    expect(machine.readPhysical(0x1_0000, 0x3000)).toEqual(tables);
    expect(() => machine.readMemory(0xc000_2fffn, 2)).toThrow('linear address 0xc0003000 is not in RAM');
    expect(() => machine.writeMemory(0xc000_2fffn, Uint8Array.of(1, 2))).toThrow(RangeError);
    expect(machine.readPhysical(0x20_3fff, 1)[0]).toBe(0);
  });

  it('code that is changed from outside is executed as it is now', () => {
    const { machine } = boot(multibootImage(new Code().spin().exit(9)));
    machine.run({ maxInstructions: 100 });
    machine.writePhysical(0x10_0000, Uint8Array.of(0x90, 0x90));
    expect(machine.run({ maxInstructions: 100 })).toMatchObject({ reason: 'exit', value: 9 });
  });

  it('registers by name', () => {
    const { machine } = boot(helloImage());
    for (const [name, value] of [
      ['r15', 0xffff_ffff_ffff_fff0n],
      ['rflags', 0xad7n],
      ['fs.base', 0x1234_5678_9abcn],
      ['fs.limit', 0xfffn],
      ['gs', 0x33n],
      ['cr3', 0x1000n],
      ['cr8', 5n],
      ['dr7', 0x401n],
      ['lstar', 7n],
      ['gdtr.base', 0x7000n],
      ['gdtr.limit', 0x17n],
    ] as const) {
      machine.setRegister(name, value);
      expect(machine.registers()[name]).toBe(value);
    }
    expect(() => machine.setRegister('eax', 1n)).toThrow('no register is named eax');
  });

  it('stepping: one instruction each, and a trace of them', () => {
    const { machine } = boot(multibootImage(new Code().bytes(0x40, 0x43).spin()));
    expect(machine.step()).toEqual({ reason: 'limit' });
    expect(machine.registers().rip).toBe(0x10_0001n);
    expect(machine.step(0)).toEqual({ reason: 'limit' });
    expect(machine.registers().rip).toBe(0x10_0002n);
    const trace: [number, bigint][] = [];
    machine.trace = (cpu, rip) => trace.push([cpu, rip]);
    machine.run({ maxInstructions: 2 });
    machine.trace = undefined;
    machine.run({ maxInstructions: 2 });
    expect(trace).toEqual([
      [0, 0x10_0002n],
      [0, 0x10_0002n],
    ]);
  });

  it('a trace shows what runs, not what is interrupted', () => {
    const { machine } = boot(nmiImage());
    machine.run({ maxInstructions: 500 });
    machine.injectNmi();
    const loop = machine.registers().rip;
    const trace: bigint[] = [];
    machine.trace = (_cpu, rip) => trace.push(rip);
    machine.run();
    expect(trace[0]).not.toBe(loop);
    expect(trace.length).toBeGreaterThan(2);
  });
});
