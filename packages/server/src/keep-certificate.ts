import { isIP } from 'node:net';
import type { Clock } from '@portcullis/guard';
import { type CertificateFiles, readCertificate, type UsableCertificate } from './certificate.ts';
import type { Certificate } from './http/wire.ts';
import { namesOf, subjectOf } from './lib/certificate-names.ts';
import { serverLog } from './lib/server-log.ts';
import { Mistake } from './mistake.ts';

/** What is served, and what is wrong with what lies on the disk in its place. */
export type CertificateStatus = {
  /** Whom it is for: the names without their types. */
  readonly names: readonly string[];
  readonly serial: string;
  readonly startsAt: number;
  /** When it runs out; that of the first authority of clients to run out, where they are asked for certificates. */
  readonly expiresAt: number;
  readonly clientCaExpiresAt: number | undefined;
  /** Why the files of now are not in use, a line each; empty when they are. */
  readonly unusable: readonly string[];
};

export type CertificateKeeper = {
  /** What to begin with. */
  readonly pem: Certificate;
  /** What the operator should know at the start. */
  readonly notes: readonly string[];
  status(): CertificateStatus;
  /**
   * Looks at the files. What is new there is taken up, or said in the log once to be unusable: when a second look finds the
   * same, as files are written bit by bit and one after the other; `at once` where nobody is writing any more.
   */
  look(when?: 'at once'): Promise<'unchanged' | 'taken up' | 'unusable'>;
};

export type CertificateKeeperOptions = {
  readonly files: CertificateFiles;
  /** Whose host the certificate should be for. */
  readonly issuer: string;
  readonly clock: Clock;
  /** Takes a certificate into use for new connections, or throws. */
  take(pem: Certificate): void;
  readonly log?: Readonly<Record<'info' | 'warn' | 'error', (facts: object, text: string) => void>>;
};

/** The status as the detail of readiness shows it. */
export const certificateDetail = ({ startsAt, expiresAt, clientCaExpiresAt, ...rest }: CertificateStatus, now: number) => ({
  ...rest,
  notBefore: new Date(startsAt).toISOString(),
  notAfter: new Date(expiresAt).toISOString(),
  expiresInS: Math.floor((expiresAt - now) / 1_000),
  ...(clientCaExpiresAt !== undefined && { clientCaNotAfter: new Date(clientCaExpiresAt).toISOString() }),
});

const DAY_MS = 86_400_000;
/** A certificate of 90 days is renewed by most tools a third before its end: at three weeks something has stopped. */
const SOON_MS = 21 * DAY_MS;

/** Keeps what is served the same as what is on the disk, and an eye on the time. @throws {Mistake} when it is unusable now. */
export async function keepCertificate({
  files,
  issuer,
  clock,
  take,
  log = serverLog,
}: CertificateKeeperOptions): Promise<CertificateKeeper> {
  const first = await readCertificate(files);
  const { mistakes, found } = first.check();
  if (!found) throw new Mistake(...mistakes);
  let current = found;
  let { digest } = first;
  let lastSeen = digest;
  let unusable: readonly string[] = [];
  /** What has been said of the files, so that it is said once. */
  let said = '';
  let looking: Promise<unknown> = Promise.resolve();
  let tellAge = ageTeller(current);
  tellAge();

  return {
    pem: found.pem,
    notes: uncovered(found).map((line) => `The certificate ${line}.`),
    status: () => ({
      names: plainNames(current),
      serial: current.leaf.serialNumber,
      startsAt: current.leaf.validFromDate.getTime(),
      expiresAt: current.leaf.validToDate.getTime(),
      clientCaExpiresAt: current.clientCas.length
        ? Math.min(...current.clientCas.map(({ validToDate }) => validToDate.getTime()))
        : undefined,
      unusable,
    }),
    look(when) {
      const looked = looking.then(() => lookOnce(when === 'at once'));
      looking = looked.catch(() => {});
      return looked;
    },
  };

  async function lookOnce(atOnce: boolean): Promise<'unchanged' | 'taken up' | 'unusable'> {
    const reading = await readCertificate(files);
    tellAge();
    const isSettled = reading.digest === lastSeen;
    lastSeen = reading.digest;
    if (reading.digest === digest) {
      if (said) log.info(seen(current), 'the files hold the certificate in use again');
      [unusable, said] = [[], ''];
      return 'unchanged';
    }
    if (!isSettled && !atOnce) return 'unchanged';
    const { mistakes, found: next } = reading.check();
    const wrong = next ? (whyNotNow(next) ?? whyNotTaken(next)) : mistakes;
    if (next && !wrong) {
      digest = reading.digest;
      taken(next);
      return 'taken up';
    }
    unusable = wrong ?? [];
    if (said !== unusable.join())
      log.error({ why: unusable, inUse: seen(current) }, 'the certificate on the disk is unusable: the old one stays');
    said = unusable.join();
    return 'unusable';
  }

  function taken(next: UsableCertificate): void {
    current = next;
    [unusable, said] = [[], ''];
    log.info(seen(current), 'certificate taken up');
    for (const line of uncovered(current)) log.warn(seen(current), `the certificate ${line}`);
    tellAge = ageTeller(current);
    tellAge();
  }

  /** The old one is better than one that no client would take. */
  function whyNotNow({ leaf }: UsableCertificate): string[] | undefined {
    const now = clock.now();
    if (leaf.validFromDate.getTime() > now) return [`it is not valid before ${leaf.validFromDate.toISOString()}`];
    if (leaf.validToDate.getTime() <= now && current.leaf.validToDate.getTime() > now)
      return [`it expired at ${leaf.validToDate.toISOString()}`];
    return undefined;
  }

  function whyNotTaken({ pem }: UsableCertificate): string[] | undefined {
    try {
      take(pem);
      return undefined;
    } catch (error) {
      return [`TLS cannot use it (${error instanceof Error ? error.message.slice(0, 200) : 'for an unknown reason'})`];
    }
  }

  function uncovered({ leaf }: UsableCertificate): string[] {
    const host = new URL(issuer).hostname.replace(/^\[|\]$/g, '');
    const covers = isIP(host) ? leaf.checkIP(host) : leaf.checkHost(host, { subject: 'never' }); // no client looks at the subject any more (RFC 9525)
    return covers === undefined
      ? [`is not for ${host}, the host of PORTCULLIS_ISSUER, but for ${plainNames({ leaf }).join(', ') || 'no name at all'}`]
      : [];
  }

  /** Says once a day what runs out within three weeks, what has run out, and what has not begun. */
  function ageTeller({ leaf, clientCas }: UsableCertificate): () => void {
    const all = [['the certificate', leaf], ...clientCas.map((ca) => ['an authority of clients', ca] as const)] as const;
    const told = new Map<X509, { readonly as: 'warn' | 'error'; readonly at: number }>();
    return () => {
      const now = clock.now();
      for (const [what, one] of all) {
        const left = one.validToDate.getTime() - now;
        const isEarly = one.validFromDate.getTime() > now;
        const as = isEarly || left <= 0 ? 'error' : left <= SOON_MS ? 'warn' : undefined;
        const before = told.get(one);
        if (!as || (before?.as === as && now - before.at < DAY_MS)) continue;
        told.set(one, { as, at: now });
        if (isEarly) log.error({ ...seenOf(one), notBefore: one.validFromDate.toISOString() }, `${what} is not valid yet`);
        else log[as](seenOf(one), left <= 0 ? `${what} has expired` : `${what} expires in less than ${inDays(left)}`);
      }
    };
  }
}

type X509 = UsableCertificate['leaf'];

const inDays = (ms: number): string => (ms < DAY_MS ? 'a day' : `${Math.floor(ms / DAY_MS) + 1} days`);

const seen = ({ leaf }: Pick<UsableCertificate, 'leaf'>) => ({ names: plainNames({ leaf }), ...seenOf(leaf) });
const seenOf = (one: X509) => ({ subject: subjectOf(one), serial: one.serialNumber, notAfter: one.validToDate.toISOString() });
const plainNames = ({ leaf }: Pick<UsableCertificate, 'leaf'>): string[] => namesOf(leaf).map((name) => name.slice(name.indexOf(':') + 1));
