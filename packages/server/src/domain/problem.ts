import { type GuardProblemCode, guardProblems, Problem as AnyProblem, type ProblemTable } from '@portcullis/guard';

/** What the server refuses beside the gates. */
const serverProblems = {
  credentials_invalid: { status: 401, title: 'Invalid credentials', detail: 'No enabled user has this username and this password.' },
  too_many_attempts: { status: 429, title: 'Too Many Attempts', detail: 'Too many passwords were tried for this username. Ask again after the seconds that Retry-After says, or from a device that has logged in before.' },
  revocation_pending: { status: 503, title: 'Revocation pending', detail: 'The session has ended, but not every instance has heard of it yet. Ask again after the seconds that Retry-After says; that is harmless.' },
  server_busy: { status: 503, title: 'Server busy', detail: 'Too many logins are waiting. Ask again after the seconds that Retry-After says.' },

  username_invalid: { status: 422, title: 'Invalid username', detail: 'A username has 1 to 64 characters, none of them invisible, and no blanks at its ends or two in a row.' },
  username_taken: { status: 409, title: 'Username taken', detail: 'Another user has this name, or a spelling of it that counts as the same.' },
  user_unknown: { status: 404, title: 'Unknown user', detail: 'There is no user with this name or id.' },
  session_unknown: { status: 404, title: 'Unknown session', detail: 'There is no living session with this id.' },
  password_too_short: { status: 422, title: 'Password too short', detail: 'Choose a longer password; a sentence is easy to remember.' },
  password_too_long: { status: 422, title: 'Password too long', detail: 'A password has at most 256 characters.' },
  password_common: { status: 422, title: 'Password too common', detail: 'This password is among those that are tried first. Choose another.' },
  password_has_context: { status: 422, title: 'Password too easy to guess', detail: 'A password may contain neither the username nor the name of this service.' },
  key_unusable: { status: 422, title: 'Unusable key', detail: 'Bring a private key as PEM (PKCS #8) or JWK: Ed25519, P-256, RSA of 2048 to 8192 bits, or a secret of at least 32 bytes.' },
  key_unknown: { status: 404, title: 'Unknown key', detail: 'There is no key with this kid.' },
  key_present: { status: 409, title: 'Key already present', detail: 'The store already has this key.' },
} as const satisfies ProblemTable;

/** Every refusal, by code: the one table that answers, docs and tests are made from. */
export const problems = { ...guardProblems, ...serverProblems } as const satisfies ProblemTable;

/** What ends before there could be an answer: a code in the security log and the metrics, with status 0, and what it means. */
export const unanswered = {
  client_certificate_refused: 'A client was let go in its TLS handshake: for want of a certificate, or for what is wrong with the one that it sent, as the reason in the security log says.',
} as const;

export type ProblemCode = GuardProblemCode | keyof typeof serverProblems;

/** {@link AnyProblem} with the server's codes. */
export const Problem = AnyProblem<ProblemCode>;
export type Problem = AnyProblem<ProblemCode>;
