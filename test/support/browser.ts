import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type BrowserContext, type BrowserContextOptions, chromium } from 'playwright-core';
import { type Ending, folderFor } from './program.ts';

/** Where a Chromium may be; `undefined` where there is none, and then tests that need one are skipped. */
export const chromiumPath = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => existsSync(path));

/**
 * A real browser that finds the hosts of `ports` on this machine, each at its port, as if it were 443 there; beside localhost it knows no other
 * host and believes any certificate. It ends with the test.
 */
export async function openBrowser(
  t: Ending,
  ports: Readonly<Record<string, number>>,
  options: BrowserContextOptions = {},
): Promise<BrowserContext> {
  if (chromiumPath === undefined) throw new Error('no Chromium here: look at chromiumPath first');
  const rules = Object.entries(ports).map(([host, port]) => `MAP ${host}:443 127.0.0.1:${port}`);
  const browser = await chromium.launch({
    executablePath: chromiumPath,
    args: [
      `--host-resolver-rules=${[...rules, 'EXCLUDE localhost', 'MAP * ~NOTFOUND'].join(', ')}`,
      '--no-proxy-server',
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
    ],
  });
  t.after(() => browser.close());
  return browser.newContext({ ignoreHTTPSErrors: true, ...options });
}

/** Serves one empty page over TLS, whatever the host and the path; says its port. It ends with the test. */
export async function servePages(t: Ending): Promise<number> {
  const folder = folderFor(t);
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', '-days', '2', '-subj', '/CN=pages of a test', ...made], { stdio: 'ignore' });
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<!doctype html><title>a page</title>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port; // it listens on TCP
}
