import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { BrowserContext, Frame, Page } from 'playwright-core';
import { chromiumPath, openBrowser, servePages } from './support/browser.ts';
import { without } from './support/needs.ts';
import { demoUser, startProgram, wideLimits } from './support/program.ts';

/** It outlives the session: with it, who guesses at the name elsewhere does not keep its owner out. */
const DEVICE = '__Host-portcullis-device';
const API = 'https://api.portcullis.test';
const APP = 'https://app.portcullis.test';
const EVIL_SIBLING = 'https://evil.portcullis.test';
const FOREIGN = 'https://foreign.test';
const entry = fileURLToPath(new URL('../examples/own-routes/server.ts', import.meta.url));

test(
  'a session in cookies, in a real browser: the page that is allowed has it, and no other page can use, read or end it',
  {
    skip: without('Chromium', chromiumPath !== undefined),
    timeout: 90_000,
  },
  async (t) => {
    const program = await startProgram(t, { entry, settings: { ...wideLimits, ISSUER: API, CORS_ORIGINS: APP } });
    const pages = await servePages(t);
    const browser = await openBrowser(t, {
      'api.portcullis.test': program.port,
      ...Object.fromEntries([APP, EVIL_SIBLING, FOREIGN].map((origin) => [new URL(origin).host, pages])),
    });
    const app = await openPage(browser, APP);
    const cookies = async () =>
      (await browser.cookies(API)).map(({ name, httpOnly, secure, sameSite }) => `${name} ${httpOnly} ${secure} ${sameSite}`);

    const names = async () => (await browser.cookies(API)).map(({ name }) => name);

    await t.test('login, write, read, a page loaded anew, refresh', async () => {
      const login = await ask(app, '/login', { json: { ...demoUser, transport: 'cookie' } });
      assert.deepEqual([login.status, Object.keys(login.json ?? {})], [200, ['expires_in', 'csrf_token']]);
      const kinds = ['access', 'device', 'refresh'];
      assert.deepEqual(
        (await cookies()).toSorted(),
        kinds.map((kind) => `__Host-portcullis-${kind} true true Strict`),
      );
      const csrf = String(login.json?.csrf_token);
      assert.equal((await ask(app, '/notes', { json: { text: 'milk' }, csrf })).status, 201);
      assert.deepEqual((await ask(app, '/notes')).json, ['milk']);
      assert.deepEqual((await ask(app, '/notes', { json: { text: 'eggs' } })).json?.code, 'csrf_missing');

      await app.reload();
      assert.equal((await ask(app, '/csrf')).json?.csrf_token, csrf);
      const before = await browser.cookies(API);
      assert.equal((await ask(app, '/refresh', { method: 'POST', csrf })).status, 200);
      const after = await browser.cookies(API);
      for (const { name, value } of before)
        assert.equal(after.find((cookie) => cookie.name === name)?.value === value, name === DEVICE, name);
      assert.equal(await app.evaluate('document.cookie'), '');
    });

    /** The session, its notes and its tokens are as they were. */
    const assertUntouched = async (after: string): Promise<void> => {
      const { status, json } = await ask(app, '/csrf');
      assert.equal(status, 200, after);
      assert.equal((await ask(app, '/refresh', { method: 'POST', csrf: String(json?.csrf_token) })).status, 200, after);
      assert.deepEqual((await ask(app, '/notes')).json, ['milk'], after);
      assert.equal((await cookies()).length, 3, after);
    };

    for (const origin of [EVIL_SIBLING, FOREIGN]) {
      for (const sandboxed of [false, true]) {
        const what = `${origin}${sandboxed ? ', in a sandboxed frame' : ''}`;
        await t.test(`${what}: neither scripts nor forms`, async () => {
          const page = await openPage(browser, origin);
          const attacker = sandboxed ? await sandboxedFrame(page) : page.mainFrame();
          assert.equal(await attacker.evaluate('self.origin'), sandboxed ? 'null' : origin);
          const held = await browser.cookies(API);
          const statuses: number[] = [];

          await Promise.all(
            ['/notes', '/csrf', '/protected'].map(async (path) => assert.equal((await ask(attacker, path)).error, 'TypeError', path)),
          );
          const tryAll = async (path: string, json: unknown): Promise<void> => {
            assert.equal((await ask(attacker, path, { json, csrf: 'x' })).error, 'TypeError', 'the preflight allows nothing');
            assert.equal((await ask(attacker, path, { method: 'POST' })).error, 'TypeError', 'nobody may read the answer');
            for (const type of ['text/plain', 'application/x-www-form-urlencoded'])
              assert.equal((await ask(attacker, path, { json, type, blind: true })).error, 'TypeError', 'not even an opaque answer');
            for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'])
              statuses.push(await submit(page, attacker, path, enctype, JSON.stringify(json)));
          };
          await Promise.all([
            tryAll('/notes', { text: 'evil' }),
            tryAll('/refresh', {}),
            tryAll('/logout', {}),
            tryAll('/login', { ...demoUser, transport: 'cookie' }),
          ]);
          assert.equal(await attacker.evaluate(`(() => { try { return document.cookie; } catch { return ''; } })()`), '');

          assert.equal(statuses.length, 12, 'the forms have reached the server');
          // Cookies of Strict go along with what a sibling sends, and with nothing else: there gate 6 is what refuses.
          const refused = origin === EVIL_SIBLING && !sandboxed ? [403, 415] : [401, 415];
          for (const status of statuses) assert.ok(refused.includes(status), `${status}`);
          assert.deepEqual(await browser.cookies(API), held);
          await page.close();
          await assertUntouched(what);
        });
      }
    }

    await t.test('logout: the cookies are gone, and what was in them is worth nothing', async () => {
      const kept = await browser.cookies(API);
      const csrf = String((await ask(app, '/csrf')).json?.csrf_token);
      assert.equal((await ask(app, '/logout', { method: 'POST', csrf })).status, 200);
      assert.deepEqual(await names(), [DEVICE]);
      await browser.addCookies(kept);
      assert.equal((await ask(app, '/notes')).json?.code, 'token_revoked');
      assert.equal((await ask(app, '/logout', { method: 'POST' })).status, 200, 'ended already: there is nothing to protect');
      assert.deepEqual(await names(), [DEVICE]);
    });

    await t.test('the page of docs/how-to/use-cookies.md', async () => {
      const [, script = ''] =
        /```js\n([^]*?)```/.exec(readFileSync(new URL('../docs/how-to/use-cookies.md', import.meta.url), 'utf8')) ?? [];
      const load = () => app.addScriptTag({ content: script.replace('https://api.example.com', API) });
      const status = async (call: string) => (await app.evaluate<{ status: number }>(call)).status;
      await load();
      assert.equal(await status(`call('/notes')`), 401, 'nobody is signed in');
      assert.equal(await status(`logIn('${demoUser.username}', '${demoUser.password}')`), 200);
      assert.equal(await status(`call('/notes', { method: 'POST', json: { text: 'eggs' } })`), 201);
      await app.reload();
      await load();
      await browser.clearCookies({ name: '__Host-portcullis-access' }); // as when it has run out
      assert.equal(await status(`call('/notes', { method: 'POST', json: { text: 'flour' } })`), 201);
      assert.deepEqual((await app.evaluate<{ body: unknown }>(`call('/notes')`)).body, ['milk', 'eggs', 'flour']);
      assert.equal(await status('logOut()'), 200);
      assert.deepEqual(await names(), [DEVICE]);
    });
  },
);

async function openPage(browser: BrowserContext, origin: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(`${origin}/`);
  return page;
}

async function sandboxedFrame(page: Page): Promise<Frame> {
  const added = page.waitForEvent('frameattached');
  await page.evaluate(`document.body.innerHTML = '<iframe sandbox="allow-scripts allow-forms" srcdoc="<p>a page"></iframe>'`);
  const frame = await added;
  await frame.waitForLoadState();
  return frame;
}

type Asked = { method?: string; json?: unknown; csrf?: string; type?: string; blind?: boolean };
type Told = { status?: number; json?: (Record<string, unknown> & { code?: string }) | undefined; error?: string };

/** `fetch` of the API with its cookies, by a page; `blind`: as `no-cors`, which needs no preflight and shows no answer. */
const ask = (page: Page | Frame, path: string, { method, json, csrf, type, blind }: Asked = {}): Promise<Told> =>
  page.evaluate(
    async ([url, init]): Promise<Told> => {
      try {
        const answer = await fetch(url, init);
        const json = (await answer.json().catch(() => undefined)) as Told['json']; // whatever the server says
        return { status: answer.status, json };
      } catch (error) {
        return { error: error instanceof Error ? error.name : 'no error' };
      }
    },
    [
      API + path,
      {
        method: method ?? (json === undefined ? 'GET' : 'POST'),
        credentials: 'include',
        mode: blind ? 'no-cors' : 'cors',
        headers: {
          ...(json !== undefined && { 'content-type': type ?? 'application/json' }),
          ...(csrf !== undefined && { 'x-csrf-token': csrf }),
        },
        ...(json !== undefined && { body: JSON.stringify(json) }),
      } satisfies RequestInit,
    ] as const,
  );

/**
 * A plain form, sent into a frame of its own so that the page stays; its field's name and value together are the text. Says
 * with which status the server answers, which the page itself may not see.
 */
async function submit(page: Page, attacker: Frame, path: string, enctype: string, text: string): Promise<number> {
  const answered = page.waitForResponse((response) => response.url() === API + path && response.request().method() === 'POST');
  const [name, value] = [text.slice(0, -2), text.slice(-2)];
  await attacker.evaluate(`((form) => {
    const target = Object.assign(document.createElement('iframe'), { name: 'into ' + Math.random() });
    const sent = Object.assign(document.createElement('form'), { ...form, method: 'post', target: target.name });
    sent.append(Object.assign(document.createElement('input'), form.field));
    document.body.append(target, sent);
    sent.submit();
  })(${JSON.stringify({ action: API + path, enctype, field: { name, value } })})`);
  return (await answered).status();
}
