/** Which of the known names was probably meant; `undefined` when none is near. @param bare leaves of a name what counts. */
export function nearest(name: string, known: readonly string[], bare: (name: string) => string = (text) => text): string | undefined {
  const [found] = known
    .map((candidate) => ({ candidate, distance: editDistance(bare(name).slice(0, 60), bare(candidate)) }))
    .filter(({ candidate, distance }) => distance <= Math.max(2, bare(candidate).length / 3))
    .toSorted((a, b) => a.distance - b.distance);
  return found?.candidate;
}

/** Levenshtein: how many letters to put in, take out or change. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= to.length; j++) {
      const changed = (above[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      row.push(Math.min(changed, (above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
  }
  return row[to.length] ?? 0;
}
