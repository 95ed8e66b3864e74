export { type Access, open, refreshToken, sessionIfNamed, showAccess, signedIn, signedInIfSent } from './access.ts';
export { type AccessTokens, accessTokens, type Caller } from './access-token.ts';
export { addressBlock, normaliseAddress } from './address.ts';
export { findBearer, REFRESH_TOKEN_PREFIX } from './bearer.ts';
export { cidrBlock, type ClientAddress, clientAddress, trustedProxies } from './client-address.ts';
export { type Clock, manualClock, steeredClock, type SteeredClock, stopwatch, systemClock } from './clock.ts';
export { cookie, type CookieName, findCookie, type SameSite, tokenCookieNames } from './cookie.ts';
export type { Charge, Counters, Standing, Verdict } from './counters.ts';
export type { CookieOptions } from './csrf.ts';
export { DressedResponse } from './dressed-response.ts';
export { parseDuration, showDuration } from './duration.ts';
export type { TrustedProxyHeader } from './forwarding.ts';
export { type Answered, guard, type GuardOptions, type Peer, type Refusal } from './guard.ts';
export { securityHeaders } from './headers.ts';
export { newRequestId } from './id.ts';
export { type Algorithm, algorithms, fixedKeys, isRsaFit, signingAlgorithms, type VerificationKey, type VerificationKeys } from './keys.ts';
export { type Limit, parseLimits, type Rule, rulesFor } from './limit.ts';
export { memoryCounters } from './memory-counters.ts';
export { type Answer as RedisAnswer, redisLedger, type RedisLedger, type RunScript } from './redis-ledger.ts';
export {
  type GuardProblemCode,
  guardProblems,
  Problem,
  problemBody,
  type ProblemExtra,
  type ProblemRow,
  type ProblemTable,
} from './problem.ts';
export { type RecentMap, recentMap } from './recent-map.ts';
export type { GuardedRoute } from './route-table.ts';
export type { Revocations } from './revocation.ts';
export type { Soon } from './soon.ts';
