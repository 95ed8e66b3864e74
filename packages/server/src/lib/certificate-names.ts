import type { X509Certificate } from 'node:crypto';

/** Whom a certificate names: `DNS:api.example.com`, `IP Address:192.0.2.7`, `URI:spiffe://…`; none where it has no such extension. */
export const namesOf = ({ subjectAltName = '' }: X509Certificate): string[] =>
  // Node puts a value with anything special in it, a comma say, between quotes like JSON's, so that it stays one name.
  [...subjectAltName.matchAll(/(?:^|, )([^:]+:(?:"(?:[^"\\]|\\.)*"|[^,]*))/g)].map(([, name = '']) => name);

/** As `CN=billing, O=Example`, with what is special in a value escaped; empty where there is none, as the names can be all. */
export const subjectOf = ({ subject }: { readonly subject?: string }): string => (subject ?? '').replaceAll('\n', ', ');
