import type { Answer, Ask, Program } from './program.ts';
import { demoUser } from './program.ts';

export const ACCESS = '__Host-portcullis-access';
export const REFRESH = '__Host-portcullis-refresh';

/** What a browser holds after a cookie login, and what its page knows. */
export type Signed = { readonly access: string; readonly refresh: string; readonly csrf: string };

/** The origin of a program's own pages. */
export const ownOrigin = ({ port }: Pick<Program, 'port'>): string => `https://localhost:${port}`;

/** The cookies that an answer sets: each name with its value and its attributes, in the order in which they came. */
export const cookiesOf = ({ headers }: Answer): { name: string; value: string; attributes: string }[] =>
  [headers['set-cookie'] ?? []].flat().map((text) => {
    const [, name = '', value = '', attributes = ''] = /^([^=]+)=([^;]*); (.*)$/.exec(text) ?? [];
    return { name, value, attributes };
  });

/** As a browser would have it after this answer. */
export function signedBy(answer: Answer): Signed {
  const found = Object.fromEntries(cookiesOf(answer).map(({ name, value }) => [name, value]));
  if (answer.status !== 200 || !found[ACCESS] || !found[REFRESH]) throw new Error(`${answer.status} ${answer.text}`);
  return { access: found[ACCESS], refresh: found[REFRESH], csrf: answer.json.csrf_token };
}

export const cookieHeader = ({ access, refresh }: Partial<Pick<Signed, 'access' | 'refresh'>>): string =>
  [...(access === undefined ? [] : [`${ACCESS}=${access}`]), ...(refresh === undefined ? [] : [`${REFRESH}=${refresh}`])].join('; ');

/** Logs in as a page of the program's own origin does. */
export const askForCookies = (program: Program, { json, headers }: Ask = {}): Promise<Answer> =>
  program.ask('POST', '/login', {
    json: { ...demoUser, transport: 'cookie', ...Object(json) },
    headers: { origin: ownOrigin(program), ...headers },
  });

export const logInByCookie = async (program: Program): Promise<Signed> => signedBy(await askForCookies(program));
