/** A peer as it stands ready, with the same work to do: HTTPS, CORS, headers, a signed token, revocation, a limit. */
export type Contestant = {
  readonly name: string;
  /** Of what it is made of, for the reader. */
  readonly versions: string;
  /** All processes that serve. */
  readonly pids: () => number[];
  /** Its Redis, where it has one. */
  readonly storePids?: () => number[];
  readonly port: number;
  /** Certificates that its own is signed by, as PEM. */
  readonly ca: string;
  /** The name that its certificate and `host` say. Default: `localhost`. */
  readonly host?: string;
  readonly over?: 'HTTP/1.1';
  /** A request of somebody who is signed in; answered with 200. */
  readonly protected: { readonly method: string; readonly path: string; readonly headers: Record<string, string> };
  /** Throws unless a revoked token is refused and the limit counts every request. Asked before the load and after it. */
  seeItWork(): Promise<void>;
  readonly note?: string;
};
