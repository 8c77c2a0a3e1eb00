/**
 * Files of the project, by their path in it. `npm run bench` runs compiled as the package is, in `build/bench`: what runs
 * sources as they are keeps the names of closures by a call for each, which costs a third of the exploration's speed.
 */
const ROOT = new URL(import.meta.url.endsWith('.ts') ? '../' : '../../', import.meta.url);

/** @param path from the project's folder */
export function projectFile(path: string): URL {
  return new URL(path, ROOT);
}
