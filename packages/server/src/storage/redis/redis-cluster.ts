import { setTimeout as pause } from 'node:timers/promises';
import { ErrorReply } from '@redis/client';
import { type RedisAddress, showRedisAddress } from '../../lib/redis-url.ts';
import { openMaster, type RedisMaster, type RedisMasterOptions } from './redis-master.ts';
import { away, type Command, openNode, reasonOf, RETRY_MS } from './redis-node.ts';
import { SLOTS, slotOf } from './slot.ts';

/** Redis Cluster: each key belongs to a slot, each slot to a master. */
export interface RedisCluster {
  /** @param key decides who is asked; all keys of one command are of one slot. */
  ask(key: string, words: readonly string[]): Promise<unknown>;
  /** As `keep` of a master. */
  keep(key: string, words: readonly string[]): Promise<unknown>;
  /** Asks each node that has slots. @param near as with `greet`. */
  each(ask: (command: Command, near: (key: string) => string) => Promise<void>): Promise<void>;
  /** Whether each slot has a master that is there. */
  isUp(): boolean;
  close(): void;
}

export type RedisClusterOptions = Pick<RedisMasterOptions, 'manners' | 'replicas' | 'onChange'> & {
  readonly seeds: readonly RedisAddress[];
  /** @param near makes of a key's name one that belongs to the node which is greeted. */
  readonly greet: (command: Command, near: (key: string) => string) => Promise<void>;
};

/** How often a call follows where it is sent, or waits for keys that are on the move. */
const TRIES = 8;

type Member = RedisMaster & { readonly address: RedisAddress };

/**
 * Opens the masters that the cluster names, and follows where it says that slots have gone. What was not answered in time is
 * never sent again: it may have been done. Only what a node has refused to do goes elsewhere.
 */
export function openCluster({ seeds, manners, replicas, greet, onChange }: RedisClusterOptions): RedisCluster {
  const members = new Map<string, Member>();
  let slots: (Member | undefined)[] = [];
  let told: boolean | undefined;
  let isClosed = false;
  let timer: NodeJS.Timeout | undefined;
  void refresh();

  /** Asks for the map of slots, and again until each has a master that is there. */
  async function refresh(doubted?: Member): Promise<void> {
    let why = 'slots without a master';
    try {
      slots = await mapOfSlots(doubted);
      for (const [name, member] of members) {
        if (slots.includes(member)) continue;
        members.delete(name);
        member.close();
      }
      await Promise.all([...members.values()].map(({ tried }) => tried));
    } catch (error) {
      why = reasonOf(error);
    }
    timer = undefined;
    if (isClosed) return closeAll();
    if (isUp()) return tell(true, 'connected');
    tell(false, why);
    refreshSoon();
  }

  function refreshSoon(doubted?: Member): void {
    if (!isClosed) timer ??= setTimeout(() => void refresh(doubted), RETRY_MS).unref();
  }

  /** The first that answers is believed. One that has just failed may be cut off from the rest, and is asked only if there is no other. */
  async function mapOfSlots(doubted: Member | undefined): Promise<(Member | undefined)[]> {
    const there = [...members.values()].filter((member) => member.isUp());
    const others = there.filter((member) => member !== doubted);
    const asked = others.length > 0 ? others : there;
    const answers =
      asked.length > 0
        ? asked.map(async ({ ask, address }) => slotsFrom(await ask(['CLUSTER', 'SLOTS']), address))
        : seeds.map(async (seed) => slotsFrom(await askOnce(seed), seed));
    return Promise.any(answers).catch((error: AggregateError) => {
      throw error.errors[0];
    });
  }

  async function askOnce(seed: RedisAddress): Promise<unknown> {
    let why = '';
    const node = openNode({ where: () => seed, manners, greet: async () => {}, onChange: (_, reason) => (why = reason) });
    try {
      await node.tried;
      if (!node.isUp()) throw away(`${showRedisAddress(seed)}: ${why}`);
      return await node.call(['CLUSTER', 'SLOTS']);
    } finally {
      node.close();
    }
  }

  /** @param from who says so, and may not know by which name he is reached. */
  function slotsFrom(answer: unknown, from: RedisAddress): (Member | undefined)[] {
    const found: (Member | undefined)[] = Array.from({ length: SLOTS });
    if (!Array.isArray(answer)) throw away('a node does not know the slots');
    for (const range of answer) {
      const [first, last, master] = Array.isArray(range) ? range : [];
      const [host, port] = Array.isArray(master) ? master : [];
      if (!Number.isInteger(first) || !Number.isInteger(last)) throw away('a node does not know the slots');
      found.fill(memberAt(addressOf(host, port, from)), Number(first), Number(last) + 1);
    }
    return found;
  }

  function memberAt(address: RedisAddress): Member {
    const name = showRedisAddress(address);
    const known = members.get(name);
    if (known) return known;
    const master = openMaster({
      where: () => address,
      manners,
      replicas,
      async greet(command) {
        const near = (key: string): string => nearTo(member, key);
        if (slots.includes(member)) await greet(command, near); // else it has no key of its own: slots are on their way to it
      },
      onChange(isNodeUp, why) {
        if (isNodeUp) return isUp() ? tell(true, 'connected') : undefined;
        if (slots.includes(member)) tell(false, `${name}: ${why}`);
        refreshSoon(member);
      },
    });
    const member = { ...master, address };
    members.set(name, member);
    return member;
  }

  function nearTo(member: Member, key: string): string {
    for (let i = 0; ; i++) if (slots[slotOf(`{${i}}`)] === member || i === SLOTS) return `${key}:{${i}}`;
  }

  const isUp = (): boolean =>
    !isClosed && slots.length === SLOTS && !slots.includes(undefined) && [...members.values()].every((member) => member.isUp());

  function tell(isUp: boolean, why: string): void {
    if (told === isUp || isClosed) return;
    told = isUp;
    onChange?.(isUp, why);
  }

  async function call(how: 'ask' | 'keep', key: string, words: readonly string[]): Promise<unknown> {
    const slot = slotOf(key);
    let member = slots[slot];
    let before: readonly string[] | undefined;
    for (let tries = 1; member && tries <= TRIES; tries++) {
      try {
        return await member[how](words, before);
      } catch (error) {
        if (!(error instanceof ErrorReply)) throw error;
        const [kind, , address = ''] = error.message.split(' ');
        if (kind === 'MOVED' || kind === 'ASK') {
          const colon = address.lastIndexOf(':');
          member = memberAt(addressOf(address.slice(0, colon), Number(address.slice(colon + 1)), member.address));
          before = kind === 'ASK' ? ['ASKING'] : undefined;
          if (kind === 'MOVED') {
            slots[slot] = member;
            refreshSoon();
          }
          await member.tried;
        } else if (kind === 'TRYAGAIN') {
          await pause(5 * tries); // a slot is on the move, and not all that was asked for is on one side
          [member, before] = [slots[slot], undefined];
        } else if (kind === 'CLUSTERDOWN') {
          refreshSoon(member);
          throw away(error.message);
        } else throw error;
      }
    }
    refreshSoon();
    throw away(member ? 'a slot is on the move' : 'away');
  }

  function closeAll(): void {
    isClosed = true;
    clearTimeout(timer);
    for (const member of members.values()) member.close();
  }

  return {
    ask: (key, words) => call('ask', key, words),
    async each(ask) {
      const inUse = [...members.values()].filter((member) => slots.includes(member));
      await Promise.all(
        inUse.map((member) =>
          ask(
            (...words) => member.ask(words),
            (key) => nearTo(member, key),
          ),
        ),
      );
    },
    keep: (key, words) => call('keep', key, words),
    isUp,
    close: closeAll,
  };
}

/** A node that does not know its own name, or a caller's network, leaves the host empty. */
function addressOf(host: unknown, port: unknown, from: RedisAddress): RedisAddress {
  const known = typeof host === 'string' && host !== '' && host !== '?' ? host : 'host' in from ? from.host : '';
  if (!Number.isInteger(port) || known === '') throw away('a node does not say where another one is');
  return { host: known, port: Number(port) };
}
