/** The schedule: what happens is a function of image, quantum and seed, wherever runs are cut. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Machine, type MachineOptions } from '../index.ts';
import { localTimerImage, racingImage, spinningImage, twoProcessorImage } from './guests.fixture.ts';

function booted(image: Uint8Array, options: MachineOptions): Machine {
  const machine = Machine.create({ memory: 2, ...options });
  machine.boot(image);
  return machine;
}

/** Everything that can differ between two runs: registers, time, and the shared counter. */
function outcome(machine: Machine): unknown {
  return machine.cpus.map((_, i) => ({
    registers: machine.registers(i),
    instructions: machine.cpus[i].instructions,
    time: machine.time(i),
    shared: [...machine.readPhysical(0x5000, 4)],
  }));
}

const RACE = racingImage(3000);

describe('determinism', () => {
  it.each<MachineOptions>([
    { cpus: 2 },
    { cpus: 2, quantum: 17 },
    { cpus: 2, quantum: 50, seed: 12 },
    { cpus: 3, quantum: 33, seed: 99 },
  ])('%o gives the same run twice', (options) => {
    const [a, b] = [booted(RACE, options), booted(RACE, options)];
    expect(a.run({ maxInstructions: 60_000 })).toEqual(b.run({ maxInstructions: 60_000 }));
    expect(outcome(a)).toEqual(outcome(b));
  });

  it('seed and quantum make different runs', () => {
    const values = [
      { quantum: 50, seed: 1 },
      { quantum: 50, seed: 2 },
      { quantum: 50, seed: 0 },
      { quantum: 51, seed: 0 },
    ].map((options) => booted(RACE, { cpus: 2, ...options }).run({ maxInstructions: 100_000 }));
    expect(new Set(values.map((stop) => (stop as { value: number }).value)).size).toBe(values.length);
  });

  it('where runs are cut has no effect', () => {
    const options = { cpus: 2, quantum: 40, seed: 5 };
    const whole = booted(RACE, options);
    whole.run({ maxInstructions: 5000 });
    const expected = outcome(whole);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 12 }), (cuts) => {
        const machine = booted(RACE, options);
        let left = 5000;
        for (const cut of cuts) {
          const take = Math.min(cut, left);
          machine.run({ maxInstructions: take });
          left -= take;
        }
        machine.run({ maxInstructions: left });
        expect(outcome(machine)).toEqual(expected);
      }),
      { numRuns: 15 },
    );
  });

  it('nor where the clock goes on by more than a tick at an instruction', () => {
    const image = spinningImage();
    const whole = booted(image, { cpus: 2, quantum: 90 });
    expect(whole.run({ maxInstructions: 100_000 })).toMatchObject({ reason: 'exit', value: 1 });
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 12 }), (cuts) => {
        const machine = booted(image, { cpus: 2, quantum: 90 });
        for (const cut of cuts) machine.run({ maxInstructions: cut });
        machine.run();
        expect(outcome(machine)).toEqual(outcome(whole));
      }),
      { numRuns: 10 },
    );
  });

  it.each([
    ['two processors', RACE, { cpus: 2, quantum: 40, seed: 5 }],
    ['a timer', localTimerImage(), { cpus: 1 }],
    ['loops that wait', spinningImage(), { cpus: 1 }],
  ] as const)('tracing has no effect: %s', (_name, image, options) => {
    const [plain, traced] = [booted(image, options), booted(image, options)];
    let instructions = 0;
    traced.trace = () => instructions++;
    expect(traced.run({ maxInstructions: 3000 })).toEqual(plain.run({ maxInstructions: 3000 }));
    expect(outcome(traced)).toEqual(outcome(plain));
    expect(instructions).toBeGreaterThan(50);
  });
});

describe('guest time', () => {
  it('processors run side by side: their times differ by a slice at most', () => {
    const machine = booted(RACE, { cpus: 2, quantum: 100 });
    for (let i = 0; i < 50; i++) {
      machine.run({ maxInstructions: 77 });
      expect(Math.abs(machine.time(0) - machine.time(1))).toBeLessThanOrEqual(100);
    }
  });

  it('a seed varies slices from half to one and a half quantum', () => {
    const machine = booted(RACE, { cpus: 2, quantum: 100, seed: 3 });
    machine.run({ maxInstructions: 2000 });
    const lengths: number[] = [];
    let current = -1;
    let length = 0;
    machine.trace = (cpu) => {
      if (cpu !== current) {
        lengths.push(length);
        current = cpu;
        length = 0;
      }
      length++;
    };
    machine.run({ maxInstructions: 20_000 });
    const slices = lengths.slice(2);
    expect(new Set(slices).size).toBeGreaterThan(20);
    // Two slices of one processor may follow each other, when the other is first to end one and first in the next.
    expect(Math.min(...slices)).toBeGreaterThanOrEqual(50);
    expect(Math.max(...slices)).toBeLessThanOrEqual(300);
  });

  it('a waiting processor idles: its time goes on, its instructions do not', () => {
    const machine = booted(localTimerImage(), { cpus: 2 });
    machine.run({ maxInstructions: 100_000 });
    expect(machine.cpus[1].instructions).toBe(0n);
    expect(machine.time(1)).toBeGreaterThan(290_000);
  });

  it('instructions that wait take as long as on silicon', () => {
    const machine = booted(spinningImage(), { cpus: 1 });
    const [cpu] = machine.cpus;
    while (cpu.gpr[1] !== 1n) machine.step();
    const turn = Array.from({ length: 7 }, () => {
      const before = machine.time();
      machine.step();
      return machine.time() - before;
    });
    // PAUSE, OUT 80H, AL; RDTSC; SUB; CMP; JB; INC ECX
    expect(turn).toEqual([20, 720, 20, 1, 1, 1, 1]);
  });

  it('what is due while an instruction waits comes after it', () => {
    const machine = booted(spinningImage(), { cpus: 1 });
    const times: number[] = [];
    machine.on('deliver', () => void times.push(machine.time()));
    machine.run({ maxInstructions: 100_000 });
    expect(times.length).toBe(40);
    const late = times.map((time, i) => time - times[0] - 5000 * i);
    for (const ticks of late) expect(Math.abs(ticks)).toBeLessThan(720);
    expect(new Set(late).size).toBeGreaterThan(2);
  });

  it('the TSC is guest time', () => {
    const machine = booted(twoProcessorImage(), { cpus: 2 });
    machine.run({ maxInstructions: 500 });
    expect(machine.cpus[0].bus.now(0)).toBe(machine.time(0));
    expect(machine.cpus[0].bus.now(1)).toBe(machine.time(1));
  });
});

describe('stepping a processor out of turn', () => {
  it('moves it alone', () => {
    const machine = booted(RACE, { cpus: 2, quantum: 100 });
    machine.run({ maxInstructions: 2000 });
    const [a, b] = machine.cpus.map((cpu) => cpu.instructions);
    for (let i = 0; i < 5; i++) expect(machine.step(1)).toEqual({ reason: 'limit' });
    expect(machine.cpus.map((cpu) => cpu.instructions)).toEqual([a, b + 5n]);
  });

  it('a processor that waits for a start-up IPI cannot be stepped', () => {
    const machine = booted(localTimerImage(), { cpus: 2 });
    expect(machine.step(1)).toMatchObject({ reason: 'deadlock' });
  });

  it('a halted processor is taken to its next interrupt', () => {
    const machine = booted(localTimerImage(), { cpus: 1 });
    const delivered: number[] = [];
    machine.on('deliver', (_cpu, vector) => void delivered.push(vector));
    for (let i = 0; i < 100 && delivered.length === 0; i++) machine.step(0);
    expect(delivered).toEqual([0x40]);
  });
});
