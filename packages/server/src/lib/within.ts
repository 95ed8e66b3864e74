/**
 * As `work` ends, if that is in time; else it rejects, and what `work` comes to is nobody's any more. A timer for each is
 * cheap, Node keeps those of one length in a list; `Promise.race` and an async function around it cost twice the rest.
 */
export function within<T>(ms: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
    work.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}
