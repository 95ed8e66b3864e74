import { z } from 'zod';

/** Text that has a UTF-8 form: a lone surrogate would become U+FFFD, and two different passwords one. */
const wellFormed = (maxLength: number) =>
  z
    .string()
    .max(maxLength)
    .refine((text) => text.isWellFormed(), 'must be well-formed Unicode');

export const Credentials = z
  .strictObject({
    username: wellFormed(1_024).describe('Any spelling of the name: case and compatibility forms are folded.'),
    password: wellFormed(4_096).describe('Exactly as it was set.'),
    transport: z
      .enum(['bearer', 'cookie'])
      .optional()
      .describe('Where the tokens go: into the body, or into cookies that no script can read. Default: bearer.'),
    device_token: z
      .string()
      .max(1_024)
      .optional()
      .describe('What the last login from this device gave: strangers who guess at the name do not keep it out.'),
  })
  .meta({ id: 'Credentials' });

export const Tokens = z
  .object({
    access_token: z.string().describe('JWT (RFC 9068), for `Authorization: Bearer`.'),
    refresh_token: z.string().describe('Opaque, for POST /refresh, once.'),
    device_token: z
      .string()
      .optional()
      .describe('Of a login: keep it as long as you can, for the next one from this device. It opens nothing.'),
    token_type: z.literal('Bearer'),
    expires_in: z.int().min(0).max(86_400).describe('Seconds that the access token lives.'),
  })
  .meta({ id: 'Tokens' });

export const csrfToken = z.string().describe('For `X-CSRF-Token`, with whatever changes something; as long as the session lives.');

export const CookieTokens = z
  .object({ expires_in: Tokens.shape.expires_in, csrf_token: csrfToken })
  .describe('The tokens are in cookies.')
  .meta({ id: 'CookieTokens' });

export const GivenTokens = z.union([Tokens, CookieTokens]);

export const NoBody = z.strictObject({}).nullish();

export const LogoutBody = z
  .strictObject({ refresh_token: z.string().max(1_024).optional() })
  .nullish()
  .meta({ id: 'Logout' });

export const Message = z.object({ msg: z.string() }).meta({ id: 'Message' });

export const ProblemBody = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string(),
    instance: z.string(),
    code: z.string().describe('Stable: branch on it. docs/reference/problems.md lists them.'),
    msg: z.string(),
    message: z.string().optional(),
    'violated-policies': z.array(z.string()).optional(),
  })
  .meta({ id: 'Problem' });
