import type { X509Certificate } from 'node:crypto';
import { namesOf, subjectOf } from '../lib/certificate-names.ts';
import type { Server } from './server.ts';
import { type Connection, held } from './wire/connections.ts';

/** Who a client is by the certificate that it proved to have in the TLS handshake. */
export type ClientCertificate = {
  /** As `CN=billing, O=Example`, with what is special in a value escaped; empty where it has names alone. */
  readonly subject: string;
  /** Its subject alternative names with their types: `DNS:billing.internal`, `URI:spiffe://example.org/billing`. */
  readonly names: readonly string[];
  /** SHA-256 of the whole certificate, as `AB:CD:…`. */
  readonly fingerprint256: string;
  /** In hex, unique for its issuer. */
  readonly serial: string;
};

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * The certificate of the client on the other end of this TLS connection: trusted by `PORTCULLIS_TLS_CLIENT_CA_FILE`, in
     * time and made for clients when the connection was opened. `undefined` where clients are not asked, where this one sent
     * none, and behind a proxy that ends TLS: what a header says of a certificate is never believed.
     */
    readonly clientCertificate: ClientCertificate | undefined;
  }
}

/** Gives each request its {@link ClientCertificate}, read when it is first asked for on a connection. */
export function addClientCertificate(app: Pick<Server, 'decorateRequest'>): void {
  app.decorateRequest('clientCertificate', {
    getter() {
      const connection: Connection | undefined = this.raw.socket[held];
      if (!connection?.client) return undefined;
      const known = described.get(connection) ?? describe(connection.client);
      described.set(connection, known);
      return known;
    },
  });
}

const described = new WeakMap<Connection, ClientCertificate>();

const describe = (certificate: X509Certificate): ClientCertificate => ({
  subject: subjectOf(certificate),
  names: namesOf(certificate),
  fingerprint256: certificate.fingerprint256,
  serial: certificate.serialNumber,
});
