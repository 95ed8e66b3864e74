import secureJson from 'secure-json-parse';
import { Problem } from '../domain/problem.ts';
import type { Server } from './server.ts';

/** Ours are flat; a body nested deeper than this is not one that any route takes. */
const MAX_DEPTH = 16;

/**
 * JSON and nothing else, in strict UTF-8 (RFC 8259 section 8.1), so that every reader of a body reads the same. Of a name
 * that stands twice, the last one counts. An empty body is none: routes that need one say so by their schema.
 */
export function addJsonBody(app: Server): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (!isPlainJson(request.headers['content-type'])) return done(new Problem('media_type_unsupported'));
    try {
      done(null, parseJson(body as Buffer)); // parseAs: 'buffer'
    } catch (error) {
      done(error as Problem); // parseJson throws nothing else
    }
  });
}

/** @throws {Problem} `body_malformed` */
function parseJson(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  const text = decode(body);
  if (isDeeperThan(MAX_DEPTH, text)) throw new Problem('body_malformed', 'too deep');
  try {
    return secureJson.parse(text, { protoAction: 'error', constructorAction: 'error' });
  } catch {
    throw new Problem('body_malformed', 'not JSON, or a forbidden key');
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decode(body: Buffer): string {
  try {
    const text = utf8.decode(body);
    if (text.charCodeAt(0) !== 0xfeff) return text;
  } catch {
    // told below
  }
  throw new Problem('body_malformed', 'not UTF-8, or with a byte order mark');
}

/** Counted before anything is built; brackets inside strings do not nest. */
function isDeeperThan(most: number, text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text.charCodeAt(i);
    if (inString) {
      if (char === 0x5c) i += 1;
      else if (char === 0x22) inString = false;
    } else if (char === 0x22) inString = true;
    else if (char === 0x7b || char === 0x5b) {
      depth += 1;
      if (depth > most) return true;
    } else if (char === 0x7d || char === 0x5d) depth -= 1;
  }
  return false;
}

/** The media type alone, or with `charset=utf-8`: no other parameter, no trailing text that another reader might take for something else. */
const isPlainJson = (type: string | undefined): boolean =>
  type !== undefined && /^application\/json[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*"?utf-?8"?[ \t]*)?;?$/i.test(type);
