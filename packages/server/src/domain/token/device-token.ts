import { macs, type Secrets } from '../../lib/seal.ts';
import { randomBytes } from '../../lib/secret.ts';

/**
 * What a good login leaves with a device, so that strangers who guess at the name do not keep that device out. It opens
 * nothing: with it, a password is still asked for. It is good for one password of one name: who has collected some with a
 * stolen password has no guesses at the next one.
 */
export interface DeviceTokens {
  /** The device's id; `undefined` for what is not ours, another name's or password's, or too old: a stranger. Costs no look-up. */
  read(text: string | undefined, of: NameAndPassword, now: number): string | undefined;
  /** For 180 days from now. @param deviceId of a device that is known already; without one it is a new device. */
  issue(of: NameAndPassword, now: number, deviceId?: string): string;
}

/** `passwordVersion`: the credential's; 0 where there is none. */
export type NameAndPassword = { readonly nameKey: string; readonly passwordVersion: number };

const PREFIX = 'pdt_';
export const DEVICE_TOKEN_TTL_MS = 180 * 86_400_000;

// pdt_ + base64url(device id 16 | issued at 6, milliseconds | MAC 32). In 54 bytes no bit of the text is idle: one token, one text.
const ISSUED_AT = 16;
const MAC_AT = 22;
const form = /^pdt_[\w-]{72}$/;

export function deviceTokens(secrets: Secrets): DeviceTokens {
  const mac = macs(secrets, 'device token');

  return {
    read(text, of, now) {
      if (text === undefined || !form.test(text)) return undefined;
      const bytes = Buffer.from(text.slice(PREFIX.length), 'base64url');
      const head = bytes.subarray(0, MAC_AT);
      if (!mac.isOne(bytes.subarray(MAC_AT), signed(head, of))) return undefined;
      if (now - bytes.readUIntBE(ISSUED_AT, 6) >= DEVICE_TOKEN_TTL_MS) return undefined;
      return head.subarray(0, ISSUED_AT).toString('hex');
    },

    issue(of, now, deviceId) {
      const head = Buffer.concat([deviceId === undefined ? randomBytes(ISSUED_AT) : Buffer.from(deviceId, 'hex'), Buffer.alloc(6)]);
      head.writeUIntBE(now, ISSUED_AT, 6);
      return PREFIX + Buffer.concat([head, mac.of(signed(head, of))]).toString('base64url');
    },
  };
}

/** The name comes last, behind what has a fixed length: no two of what is signed are one text. */
function signed(head: Buffer, { nameKey, passwordVersion }: NameAndPassword): Buffer {
  const version = Buffer.alloc(6);
  version.writeUIntBE(passwordVersion, 0, 6);
  return Buffer.concat([head, version, Buffer.from(nameKey)]);
}
