/** A server that answers `GET /protected` behind its own gates, ready to be measured. */
export type Contestant = {
  name: string;
  /** Of its framework and of the libraries at work. */
  versions: string;
  /** Of all its processes. */
  pids: () => number[];
  /** Of what it asks on each request, a Redis or a PostgreSQL. */
  storePids?: () => number[];
  port: number;
  ca: string;
  host?: string;
  over?: 'HTTP/1.1';
  protected: { method: string; path: string; headers: Record<string, string> };
  /** @throws {AssertionError} when it skips some of the work. Leaves the token of `protected` good. */
  seeItWork(): Promise<void>;
  /** What a reader of its figures should know. */
  note?: string;
};
