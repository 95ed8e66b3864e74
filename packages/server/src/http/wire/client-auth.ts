import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

/** Whether a client is asked for a certificate of its own. What it sends must be good in either case. */
export type ClientAuth = 'none' | 'optional' | 'required';

/** What may be wrong with a client, for the log. Nothing of what it sent. */
export type ClientFault = 'none sent' | 'untrusted' | 'expired' | 'not yet valid' | 'not for clients' | 'unusable';

/** Of a finished handshake: the client's certificate, or `undefined` where it sent none and may; or what is wrong. */
export function clientOf(socket: TLSSocket, auth: ClientAuth): { certificate: X509Certificate | undefined } | { fault: ClientFault } {
  const certificate = auth === 'none' ? undefined : socket.getPeerX509Certificate();
  if (!certificate) return auth === 'required' ? { fault: 'none sent' } : { certificate };
  if (!socket.authorized) return { fault: faultOf(socket.authorizationError) };
  // OpenSSL also takes one that names no purpose. A CA that signs for servers too then lets any of them pass for a client.
  return certificate.keyUsage?.includes(FOR_CLIENTS) ? { certificate } : { fault: 'not for clients' };
}

/** The same of a handshake that failed; `undefined` where it was not for the client's certificate. */
export function faultInHandshake({ code = '' }: NodeJS.ErrnoException, { authorizationError }: TLSSocket): ClientFault | undefined {
  if (authorizationError) return faultOf(authorizationError);
  if (code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') return 'none sent';
  return code === 'ERR_SSL_BAD_SIGNATURE' ? 'unusable' : undefined; // the certificate is not the sender's
}

/** @param error the name of an X509_V_ERR of OpenSSL, whatever Node's types say of it. */
const faultOf = (error: unknown): ClientFault => faults[String(error)] ?? 'unusable';

const faults: Readonly<Record<string, ClientFault>> = {
  CERT_HAS_EXPIRED: 'expired',
  CERT_NOT_YET_VALID: 'not yet valid',
  INVALID_PURPOSE: 'not for clients',
  CERT_REJECTED: 'untrusted',
  CERT_SIGNATURE_FAILURE: 'untrusted',
  CERT_UNTRUSTED: 'untrusted',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'untrusted',
  SELF_SIGNED_CERT_IN_CHAIN: 'untrusted',
  UNABLE_TO_GET_ISSUER_CERT: 'untrusted',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'untrusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'untrusted',
};

/** id-kp-clientAuth (RFC 5280 section 4.2.1.12). */
const FOR_CLIENTS = '1.3.6.1.5.5.7.3.2';
