/**
 * The check of a whole Linux that has moved itself: its returns to 16-bit stacks are clean, and with its test for them gone they leak
 * bits of the kernel's stack pointer. Skipped unless ESPFIX_LINUX_16BIT names a bzImage with CONFIG_X86_16BIT, such as
 * `npm run linux -- FOLDER --source` builds: it takes some minutes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkPlanned } from '../../check/check-planned.ts';
import { bootLinux, kernelSymbols, LINUX_COMMAND_LINE, LINUX_PATIENCE } from '../../check/linux/boot.ts';
import { parsePatch } from '../../check/linux/patch.ts';
import { ESPFIX_RETURN, linuxSubject, linuxVisits } from '../../check/linux/subject.ts';
import { applyPlan, type Plan } from '../../check/plan.ts';
import { machineFor } from '../../check/ready.ts';
import type { Snapshot } from '../../machine/snapshot.ts';

const file = process.env.ESPFIX_LINUX_16BIT ?? '';
const map = join(dirname(file), 'System.map');
const MINUTES = 20;

describe.skipIf(file === '')('Linux', () => {
  const image = file === '' ? new Uint8Array() : readFileSync(file);
  let booted: Snapshot;
  beforeAll(() => {
    const commandLine = LINUX_COMMAND_LINE.replace('nokaslr ', '');
    booted = bootLinux(image, { cpus: 1, memory: 256, commandLine, patience: LINUX_PATIENCE });
  }, MINUTES * 60_000);

  const check = (patches: readonly string[], plan: Plan = {}) => {
    const { subject } = linuxSubject({
      name: 'Linux',
      image,
      booted,
      ownProgram: true,
      patches: patches.map(parsePatch),
    });
    return {
      subject,
      report: checkPlanned(applyPlan(subject, plan, 'the plan', linuxVisits)),
    };
  };

  it.skipIf(!existsSync(map))('has the symbols of its System.map where it is', () => {
    const machine = machineFor({ cpus: 1, memory: 256 });
    machine.restore(booted);
    const own = kernelSymbols(machine, undefined);
    const file = kernelSymbols(machine, readFileSync(map));
    for (const name of ['_text', ESPFIX_RETURN, 'init_task', 'espfix_waddr'])
      expect(file.address(name), name).toBe(own.address(name));
  });

  it(
    'is clean: a system call, an exception and sigreturn, with an event at each instruction',
    () => {
      const only = ['cs32 ss16 ldt', 'cs16 ss16 ldt'].flatMap((to) => [
        { to, entry: 'INT 0x80' },
        { to, entry: 'SYSCALL' },
      ]);
      const { report, subject } = check([], { visits: { only } });
      expect(report.findings).toEqual([]);
      expect(report.verdict).toBe('clean');
      expect(new Set(report.visits.map(({ visit, returnsTo }) => `${visit.entry} ${returnsTo}`)).size).toBe(
        4,
      );
      expect(report.experiments).toBeGreaterThan(
        report.visits.reduce((sum, { boundaries }) => sum + boundaries, 0),
      );
      // Each visit was interrupted on its way through the ministack.
      const target = subject.symbol(ESPFIX_RETURN);
      for (const { coverage } of report.visits) {
        const there = coverage.find(({ place }) => place.address === target);
        expect(there?.events).toMatchObject({ nmi: 1 });
      }
    },
    MINUTES * 60_000,
  );

  it(
    'leaks bits 31:16 of its stack pointer when it does not look for such stacks',
    () => {
      const machine = machineFor({ cpus: 1, memory: 256 });
      machine.restore(booted);
      // The jump of two bytes before the IRET leads to what follows it.
      const iret = kernelSymbols(machine, undefined).address('native_irq_return_iret') ?? 0n;
      const patch = `0x${(iret - 2n).toString(16)}=7502:9090`;
      const { report } = check([patch]);
      expect(report.verdict).toBe('findings');
      const leak = report.findings.find(({ property }) => property === 'kernel-bits');
      expect(leak?.what).toBe("user mode's rsp holds bits of kernel stack pointer (TSS.RSP0 of CPU 0)");
      expect(leak?.provenance).toMatchObject([
        { location: 'rsp[31:16]', birth: 'bits 31:16 of kernel stack pointer (TSS.RSP0 of CPU 0)' },
      ]);
      expect(leak?.provenance[0]?.hops.at(-1)?.place.name).toMatch(/^native_irq_return_iret/);
      expect(
        report.findings.some(({ property, what }) => property === 'transparent' && what.includes('rsp')),
      ).toBe(true);
      const entries = new Set(report.visits.map(({ visit }) => visit.entry.replace(/0x.*/, '')));
      expect([...entries].sort()).toEqual(['#PF', 'INT ', 'SYSCALL', 'interrupt ']);
    },
    MINUTES * 60_000,
  );
});
