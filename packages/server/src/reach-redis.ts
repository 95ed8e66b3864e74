import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { redisLedger, type RedisLedger } from '@portcullis/guard';
import { nowAndThen } from './lib/now-and-then.ts';
import { serverLog } from './lib/server-log.ts';
import { Mistake, openSet } from './mistake.ts';
import type { Settings } from './settings/table.ts';
import { openRedis, type RedisLink, type RedisLinkOptions } from './storage/redis/redis-link.ts';

/**
 * The way to the Redis that is set, and what is kept there. It comes up by itself; nothing waits for it.
 * @throws {Mistake} when the authorities that are to be believed cannot be read.
 */
export function reachRedis(
  settings: Settings & { readonly redisUrl: string },
  { prefix, greet, onChange }: { readonly prefix: string } & Pick<RedisLinkOptions, 'greet' | 'onChange'>,
): { link: RedisLink; ledger: RedisLedger } {
  const onOdd = nowAndThen(60_000, (why: string) => {
    serverLog.error({ why }, 'Redis answers what no script of ours gives: is there something else under our keys?');
  });
  const link = openRedis({
    url: settings.redisUrl,
    password: settings.redisPassword,
    sentinelPassword: settings.redisSentinelPassword,
    ca: settings.redisTlsCaFile && readAuthorities(settings.redisTlsCaFile),
    waitReplicas: settings.redisWaitReplicas,
    timeoutMs: settings.redisTimeoutMs,
    greet,
    onOdd,
    ...(onChange && { onChange }),
  });
  return { link, ledger: redisLedger({ run: link.run, keep: link.keep, isCluster: link.isCluster, prefix, onOdd }) };
}

function readAuthorities(file: string): string {
  const setting = 'PORTCULLIS_REDIS_TLS_CA_FILE';
  const ca = openSet(setting, file, () => readFileSync(file, 'utf8'));
  try {
    if (!ca.includes('-----BEGIN CERTIFICATE-----')) throw new Error('none');
    createSecureContext({ ca });
  } catch {
    throw new Mistake(`${setting}: ${file} holds no certificate that can be read: it takes those of the authorities, as PEM`);
  }
  return ca;
}
