import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { chromiumPath, openBrowser } from './support/browser.ts';
import { openApp } from './support/house.ts';
import { without } from './support/needs.ts';
import { sharedProgram, wideLimits } from './support/program.ts';
import { assertRefused } from './support/refusal.ts';

describe('the page at /docs', () => {
  const program = sharedProgram(wideLimits);

  test('is under a policy of its own: what is on it comes from here, and nobody frames it', async () => {
    const { status, headers, text } = await program.ask('GET', '/docs');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(
      headers['content-security-policy'],
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    assert.equal(headers['cross-origin-opener-policy'], 'same-origin');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['cache-control'], 'no-cache');
    assert.doesNotMatch(text, /\sstyle=|\son\w+=|<style|<script>|https?:/, 'nothing inline, nothing from elsewhere');
    const head = await program.ask('HEAD', '/docs');
    assert.deepEqual([head.status, head.text, head.headers['content-length']], [200, '', headers['content-length']]);
  });

  test('what it is made of is kept by the browser, by a path that names its contents', async () => {
    const { text, headers } = await program.ask('GET', '/docs');
    const paths = [...text.matchAll(/(?:href|src)="(docs\/[^"]+)"/g)].map(([, path]) => `/${path}`);
    assert.deepEqual(
      paths.map((path) => path.split('/').at(-1)),
      ['icon.svg', 'swagger-ui.css', 'page.css', 'swagger-ui-bundle.js', 'page.js', 'icon.svg'],
    );
    for (const path of paths) {
      const asset = await program.ask('GET', path);
      assert.equal(asset.status, 200, path);
      assert.equal(asset.headers['cache-control'], 'public, max-age=31536000, immutable');
      assert.match(String(asset.headers['content-type']), /^(text\/(css|javascript); charset=utf-8|image\/svg\+xml)$/);
      const again = await program.ask('GET', path, { headers: { 'if-none-match': String(asset.headers.etag) } });
      assert.deepEqual([again.status, again.text], [304, '']);
    }
    assert.equal((await program.ask('GET', '/docs', { headers: { 'if-none-match': String(headers.etag) } })).status, 304);
    assert.equal((await program.ask('GET', '/docs', { headers: { 'if-none-match': '"another"' } })).status, 200);
    const [, version] = /docs\/([^/]+)\//.exec(text) ?? [];
    for (const path of [
      '/docs/old/page.js',
      `/docs/${version}/page.html`,
      `/docs/${version}/..%2fpage.html`,
      `/docs/${version}/__proto__`,
      `/docs/${version}/`,
    ])
      assertRefused(await program.ask('GET', path), 'not_found', path);
  });

  test(
    'in a browser: every route, and a login whose tokens the next try uses',
    { skip: without('Chromium', chromiumPath !== undefined) },
    async (t) => {
      const context = await openBrowser(t, {}, { colorScheme: 'dark' });
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
      page.on('pageerror', (error) => complaints.push(error.message));
      page.on('request', (request) => {
        if (!request.url().startsWith(`https://localhost:${program.port}/`) && !request.url().startsWith('data:'))
          complaints.push(request.url());
      });
      await page.goto(`https://localhost:${program.port}/docs`);
      await page.locator('.opblock').first().waitFor();
      assert.equal(await page.title(), 'Portcullis API');
      const shown = await page.locator('.opblock-summary-path').allInnerTexts();
      const { paths } = (await program.ask('GET', '/openapi.json')).json;
      assert.deepEqual(shown.map((path) => path.replaceAll('\u200b', '')).toSorted(), Object.keys(paths).toSorted());
      assert.equal(await page.locator('html.dark-mode').count(), 1);

      const credentials = '{"username":"testuser","password":"password123"}';
      await tryOut(page, '/healthz', '"status": "ok"');
      await tryOut(page, '/protected', 'Missing Authorization Header');
      await tryOut(page, '/login', '"refresh_token": "prt_', credentials);
      await tryOut(page, '/protected', '"logged_in_as": "testuser"');
      await tryOut(page, '/refresh', '"refresh_token": "prt_');
      await tryOut(page, '/logout', 'Successfully logged out');
      await tryOut(page, '/protected', 'Missing Authorization Header');

      // The one thing to complain of: Chromium says of each refusal that it was one.
      assert.deepEqual(
        complaints.filter((text) => !text.startsWith('error: Failed to load resource: the server responded with a status of 401')),
        [],
      );
      await page.reload();
      await page.locator('.opblock').first().waitFor();
      assert.match(await page.locator('#signed').innerText(), /^Not logged in/, 'tokens are kept nowhere');
      assert.deepEqual(await page.evaluate('[localStorage.length, sessionStorage.length, document.cookie]'), [0, 0, '']);
    },
  );
});

test('where it is not wanted there is nothing', async (t) => {
  const { app } = await openApp(t, { DOCS_PAGE: 'false' });
  for (const url of ['/docs', '/docs/x/page.js'])
    assert.equal((await app.inject({ url, headers: { host: 'localhost' } })).json().code, 'not_found');
  assert.ok(app.guardedRoutes.every(({ path }) => !path.startsWith('/docs')));
});

/** Opens a route of the page where it is closed, sends it, and waits until the page shows an answer with this text. */
async function tryOut(page: Page, path: string, hasText: string, body?: string): Promise<void> {
  const block = page.locator('.opblock', { has: page.locator(`[data-path="${path}"]`) });
  if ((await block.locator('button.execute').count()) === 0) await block.locator('.opblock-summary-control').click();
  if (body !== undefined) await block.locator('textarea').fill(body);
  await block.locator('button.execute').click();
  await block.locator('.live-responses-table', { hasText }).waitFor({ timeout: 5_000 });
}
