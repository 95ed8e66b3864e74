const unitMs = {
  ms: 1,
  s: 1_000,
  second: 1_000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
} as const;
type Unit = keyof typeof unitMs;

const isUnit = (text: string): text is Unit => Object.hasOwn(unitMs, text);

/**
 * `'10 minutes'`, `'90s'`, `'7 days'` as milliseconds. A number without a unit is refused, except 0.
 * @throws {Error} with a sentence that shows the right form.
 */
export function parseDuration(text: string): number {
  const found = /^(\d{1,9}) ?([a-z]*)$/.exec(text.trim().toLowerCase());
  const [, count, unit = ''] = found ?? [];
  if (count === '0' && unit === '') return 0;
  const singular = unit.length > 3 ? unit.replace(/s$/, '') : unit;
  if (!found || !isUnit(singular))
    throw new Error(`"${text.slice(0, 40)}" is not a duration: write a whole number and a unit, like "15 minutes", "90s" or "7 days"`);
  return Number(count) * unitMs[singular];
}

const shownUnits = ['day', 'hour', 'minute', 'second'] as const;

/** In the largest unit that divides it, so that {@link parseDuration} reads it again: 900000 as `15 minutes`. */
export function showDuration(ms: number): string {
  if (ms === 0) return '0';
  const unit = shownUnits.find((one) => ms % unitMs[one] === 0);
  if (!unit) return `${ms} ms`;
  return `${ms / unitMs[unit]} ${unit}${ms === unitMs[unit] ? '' : 's'}`;
}
