/** Where the pieces of work of an exploration are done: in worker threads; from the sources themselves, in this thread. */
import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { Tinypool } from 'tinypool';
import type { PieceProgress, Refusal, Surveyed, SurveyTask, VisitTask, VisitWork } from './explore-work.ts';
import { UserError } from './failure.ts';

export interface Runner {
  /** Boots a subject and watches it. */
  survey(task: SurveyTask): Promise<Surveyed>;
  visit(task: VisitTask, onProgress: (done: PieceProgress) => void): Promise<VisitWork>;
  end(): Promise<void>;
}

/** @param jobs threads; default as many as the processors can run */
export function startRunner(jobs: number | undefined): Runner {
  return import.meta.url.endsWith('.ts') ? inThisThread() : inWorkers(jobs ?? availableParallelism());
}

function accept<T extends object>(result: T | Refusal): T {
  if ('refused' in result) throw new UserError(result.refused);
  return result;
}

function inWorkers(jobs: number): Runner {
  const pool = new Tinypool({
    filename: new URL('./explore-worker.js', import.meta.url).href,
    minThreads: jobs,
    maxThreads: jobs,
    // A thread keeps the subject that it opened.
    idleTimeout: 2 ** 31 - 1,
  });
  return {
    survey: async (task) => accept((await pool.run(task)) as Surveyed | Refusal),
    async visit(task, onProgress) {
      const { port1, port2 } = new MessageChannel();
      port1.on('message', onProgress);
      try {
        const result: VisitWork | Refusal = await pool.run(
          { ...task, progress: port2 },
          { transferList: [port2] },
        );
        return accept(result);
      } finally {
        port1.close();
      }
    },
    end: () => pool.destroy(),
  };
}

function inThisThread(): Runner {
  const load = () => import('./explore-work.ts');
  // What came meanwhile is heard between two pieces of work.
  const breathe = () => new Promise((resolve) => setImmediate(resolve));
  let last: Promise<unknown> = Promise.resolve();
  return {
    survey: async (task) => (await load()).survey(task),
    visit(task, onProgress) {
      const next = last.then(async () => {
        await breathe();
        return (await load()).exploreVisit(task, onProgress);
      });
      last = next.catch(() => {});
      return next;
    },
    end: async () => {},
  };
}
