import { randomUUID } from 'node:crypto';

/** A request's id: a random UUID, sent as `X-Request-Id` and as `instance` (`urn:uuid:…`) of a problem. */
export const newRequestId = (): string => randomUUID();

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const isRequestId = (text: string): boolean => uuid.test(text);
