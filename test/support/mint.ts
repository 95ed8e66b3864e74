import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CompactSign, decodeJwt, decodeProtectedHeader, importJWK, type JWK } from 'jose';
import { openPrivateJwk } from '../../packages/server/src/domain/key/key-material.ts';
import { sqliteStore } from '../../packages/server/src/storage/sql/sql-store.ts';

/** Makes access tokens like one that a server gave, but for what is changed, signed with that server's own key. */
export type Mint = (like: string, claims?: Record<string, unknown>, header?: Record<string, unknown>) => Promise<string>;

/** The key of a demo's folder, opened with its master secret. A claim that is `undefined` is left out. */
export async function openMint({ folder }: { folder: string }): Promise<Mint & { readonly jwk: JWK }> {
  const store = sqliteStore(join(folder, 'portcullis.db'));
  const [stored] = await store.keys.list();
  await store.close();
  const jwk = stored && openPrivateJwk(stored, readFileSync(join(folder, 'master-secret'), 'utf8').trim());
  if (!jwk) throw new Error('the folder has no key that its secret opens');
  const key = await importJWK(jwk, stored.alg);

  const mint: Mint = (like, claims, header) =>
    new CompactSign(Buffer.from(JSON.stringify({ ...decodeJwt(like), ...claims })))
      .setProtectedHeader({ alg: stored.alg, ...decodeProtectedHeader(like), ...header })
      .sign(key);
  return Object.assign(mint, { jwk });
}
