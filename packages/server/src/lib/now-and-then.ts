/** Passes on the first word, and of those that follow within the span none: for a log that others could fill. */
export function nowAndThen<T>(ms: number, tell: (word: T) => void): (word: T) => void {
  let isQuiet = false;
  return (word) => {
    if (isQuiet) return;
    isQuiet = true;
    setTimeout(() => (isQuiet = false), ms).unref();
    tell(word);
  };
}
