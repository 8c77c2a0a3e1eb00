/**
 * Page tables published before they are filled.
 *
 * Tables built from the root down are in use as soon as the root's entry names them. A CPU that takes that entry for a sign
 * that all is there goes on while the entries below are still being written, and returns by an alias that is not mapped yet.
 * Built from the leaves up, or behind a flag that is set last, the same code is sound.
 *
 * Difference: the per-CPU pointers are there from boot; the page tables are built at modify_ldt, under a lock, by whoever
 * finds the root's entry absent. Schedule: CPU 1 stopped in `espfix_map` after that entry, CPU 0 through modify_ldt to its
 * return, which faults on the ministack.
 */

import { mem, qword, rax, rcx, rdx, sym } from '../../assembler.ts';
import { ESPFIX_PGD_SLOT, KERNEL_BASE, PAGE_SIZE, PHYSICAL_MAP, percpu, percpuPage } from '../../layout.ts';
import { emitSetUpAll } from '../linux.ts';
import type { GalleryEntry } from './entry.ts';
import { emitLock, emitSetUpData, emitUnlock, lazy } from './set-up.ts';

/** Of the pool's pages the first three become tables. */
const MINISTACK_PAGE = 3n * BigInt(PAGE_SIZE);

export const tablesPublishedEarly: GalleryEntry = {
  name: 'tables-published-early',
  title: 'page tables published before they are filled',
  description:
    "modify_ldt takes the root's entry for a sign that all page tables are there, but it is written first: another CPU returns by an alias that is not mapped yet.",
  verdict: 'unsafe',
  withoutEvents: 'safe',
  property: 'progress',
  events: ['cpu'],
  at: 'espfix_map',
  cpus: 2,
  shows: (c) => c.path === 'int80' && c.cs === 'cs16-ldt' && c.ss === 'ss16-ldt' && c.name === '-',
  variant: {
    ...lazy,
    name: 'tables-published-early',
    emitBootSetup(a, { ministacks }) {
      for (const [cpu, address] of ministacks.entries()) {
        const inPage = address & BigInt(PAGE_SIZE - 1);
        a.mov(rdx, sym('percpu', BigInt(cpu * percpuPage.size)));
        a.mov(rax, address);
        a.mov(mem(rdx, percpu.espfixStack), rax);
        a.mov(rax, sym('page_pool', PHYSICAL_MAP - KERNEL_BASE + MINISTACK_PAGE + inPage));
        a.mov(mem(rdx, percpu.espfixWrite), rax);
      }
    },
    emitFunctions(a, build) {
      lazy.emitFunctions(a, build);
      emitSetUpData(a);
      a.label('espfix_init');
      a.mov(rax, sym('kernel_pml4'));
      a.mov(rcx, PHYSICAL_MAP);
      a.cmp(qword(rax, rcx, 8 * ESPFIX_PGD_SLOT), 0);
      a.jne('.done');
      emitLock(a);
      emitSetUpAll(a, build.cpus);
      emitUnlock(a);
      a.label('.done');
      a.ret();
    },
  },
};
