import type { AddressInfo } from 'node:net';
import type { OperatorPages } from './operator-pages.ts';
import type { Settings } from './settings/table.ts';

/** A server that has been started. */
export type Running = {
  readonly settings: Settings;
  readonly issuer: string;
  readonly address: AddressInfo;
  /** Where the details for operators are, if anywhere. */
  readonly adminAddress: AddressInfo | undefined;
  /** What is to be seen there; nothing without `ADMIN_LISTEN`. */
  readonly pages: OperatorPages | undefined;
  /** What a demo made for itself, and where; empty for `serve`. */
  readonly made: readonly { readonly what: string; readonly where: string; readonly how: 'new' | 'kept' | 'renewed' }[];
  readonly notes: readonly string[];
  /** False when nobody can log in yet. */
  readonly hasUsers: boolean;
  /** Where the store is and where the security log goes; `:memory:` and `stdout` are no files. */
  readonly files: { readonly store: string; readonly securityLog: string };
  /** For a process that is about to die of a fault: writes at once what the security log still holds. */
  lastWords(): void;
  /**
   * Opens the security log anew, by its name, and looks at the files of the certificate at once; what came of it is one line
   * of the server's log. It never fails: what cannot be opened or used stays as it was.
   */
  reload(): Promise<void>;
  /** Ends what is in flight within ten seconds, then everything else. Asked twice, it is the same end. */
  stop(): Promise<void>;
};
