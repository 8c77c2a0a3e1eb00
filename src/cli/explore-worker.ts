/** The part of an exploration that runs in worker threads. */
import { exploreVisit, refusing, type SurveyTask, survey, type VisitTask } from './explore-work.ts';

export default function work(task: SurveyTask | VisitTask) {
  if (task.kind === 'survey') return refusing(survey(task));
  return refusing(exploreVisit(task, (done) => task.progress?.postMessage(done)));
}
