import type { Charge, Verdict } from './counters.ts';

/** What is known of a session and of the charges of its request. */
export type Said = {
  readonly verdict: Verdict;
  readonly revoked: boolean;
  /** `name.version`; where it is not what was claimed, this bucket has forgotten, and `revoked: false` proves nothing. */
  readonly generation: string | undefined;
};

/** What was answered for the charges of one place. */
export type Part = {
  readonly verdict: Verdict;
  /** The charge of which the verdict speaks. */
  readonly speaksOf: Charge | undefined;
  /** For each charge the time under which it was counted, where it was lent. */
  readonly lent: readonly number[];
};

/** One place's charges, and what came of asking there. */
type Loan = { readonly charges: readonly Charge[] } & ({ readonly part: Part } | { readonly error: unknown });

/**
 * Counting where no script can see all counters at once: each place counts its charges for itself, all at the same time, and
 * when one refuses or does not answer, the others are given back. Until then they count, so somebody else may be refused
 * early; nobody is ever admitted beyond a limit. What was not answered is not given back: it may not have been counted.
 */
export function lending(on: {
  lend(charges: readonly Charge[]): Promise<Part>;
  look(charges: readonly Charge[]): Promise<Part>;
  giveBack(charges: readonly Charge[], times: readonly number[]): Promise<unknown>;
}) {
  /** The charges of one address, user or name are in one place. Never rejects. */
  const askEach = (ask: typeof on.lend, charges: readonly Charge[]): Promise<Loan[]> =>
    Promise.all(
      [...Map.groupBy(charges, ({ who }) => who).values()].map((charges) =>
        ask(charges).then(
          (part) => ({ charges, part }),
          (error: unknown) => ({ charges, error }),
        ),
      ),
    );

  async function giveBack(loans: readonly Loan[]): Promise<void> {
    const counted = loans.flatMap((loan) => ('part' in loan && loan.part.verdict.allowed ? [{ ...loan.part, charges: loan.charges }] : []));
    // One that cannot be given back leaves with its window.
    await Promise.allSettled(counted.map(({ charges, lent }) => on.giveBack(charges, lent)));
  }

  /** @param asked in their order. @throws what one place said instead of an answer, unless another refuses. */
  function verdictOf(asked: readonly Charge[], loans: readonly Loan[]): Verdict {
    const parts = loans
      .flatMap((loan) => ('part' in loan ? [loan.part] : []))
      .toSorted((a, b) => placeOf(asked, a.speaksOf) - placeOf(asked, b.speaksOf));
    const refusals = parts.flatMap(({ verdict }) => (verdict.allowed ? [] : [verdict]));
    if (refusals.length > 0) return refusals.reduce((a, b) => (b.refusedBy.resetMs > a.refusedBy.resetMs ? b : a));
    for (const loan of loans) if ('error' in loan) throw loan.error;
    const admissions = parts.flatMap(({ verdict }) => (verdict.allowed && verdict.tightest ? [verdict.tightest] : []));
    const used = ({ rule, remaining }: (typeof admissions)[number]): number => (rule.limit.max - remaining) / rule.limit.max;
    return { allowed: true, tightest: admissions.length > 0 ? admissions.reduce((a, b) => (used(b) > used(a) ? b : a)) : undefined };
  }

  return {
    async peek(charges: readonly Charge[]): Promise<Verdict> {
      return verdictOf(charges, await askEach(on.look, charges));
    },

    async take(charges: readonly Charge[]): Promise<Verdict> {
      const loans = await askEach(on.lend, charges);
      let verdict: Verdict | undefined;
      try {
        return (verdict = verdictOf(charges, loans));
      } finally {
        if (!verdict?.allowed) await giveBack(loans);
      }
    },

    /** @param session what is known of it, asked in the same moment. */
    async takeFor(session: Promise<Said>, always: readonly Charge[], ifLiving: readonly Charge[]): Promise<Said> {
      const [known, first, rest] = await Promise.all([
        session.then(
          (answer) => ({ answer }),
          (error: unknown) => ({ error }),
        ),
        askEach(on.lend, always),
        askEach(on.lend, ifLiving),
      ]);
      let back = [...first, ...rest];
      try {
        if ('error' in known) throw known.error;
        const { revoked, generation } = known.answer;
        const verdict = revoked ? verdictOf(always, first) : verdictOf([...always, ...ifLiving], back);
        if (verdict.allowed) back = revoked ? rest : [];
        return { verdict, revoked, generation };
      } finally {
        if (back.length > 0) await giveBack(back);
      }
    },
  };
}

const placeOf = (asked: readonly Charge[], charge: Charge | undefined): number => (charge ? asked.indexOf(charge) : -1);
