import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { redisLedger, type RedisLedger } from '@portcullis/guard';
import { nowAndThen } from './lib/now-and-then.ts';
import { sha256 } from './lib/seal.ts';
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
  { issuer, onChange }: { readonly issuer: string } & Pick<RedisLinkOptions, 'onChange'>,
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
    greet: mustTakeWrites,
    onOdd,
    ...(onChange && { onChange }),
  });
  const prefix = `portcullis:${sha256(issuer).slice(0, 8)}`;
  return { link, ledger: redisLedger({ run: link.run, keep: link.keep, isCluster: link.isCluster, prefix, onOdd }) };
}

/** A replica takes no writes, nor does one that is full or broken: limits would not be counted by it. */
const mustTakeWrites: RedisLinkOptions['greet'] = async (command, near) => {
  const role = await command('ROLE');
  if (!Array.isArray(role) || role[0] !== 'master') throw new Error('this is a replica');
  await command('SET', near('portcullis:greeting'), '1', 'PX', '1000');
};

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
