/** What is at hand, or comes later. A request whose answers are all at hand passes the gates without a promise. */
export type Soon<T> = T | Promise<T>;

/** Goes on with the value, at once where it is at hand. What `next` throws is thrown on, or rejects. */
export const andThen = <T, U>(value: Soon<T>, next: (value: T) => Soon<U>): Soon<U> =>
  value instanceof Promise ? value.then(next) : next(value);

/** What `work` gives; where it throws or rejects, what `failed` gives instead. */
export function orElse<T>(work: () => Soon<T>, failed: (error: unknown) => Soon<T>): Soon<T> {
  let value: Soon<T>;
  try {
    value = work();
  } catch (error) {
    return failed(error);
  }
  return value instanceof Promise ? value.catch(failed) : value;
}

/** The end of a chain: calls one of the two, once. */
export function settle<T>(work: () => Soon<T>, done: (value: T) => void, failed: (error: unknown) => void): void {
  let value: Soon<T>;
  try {
    value = work();
  } catch (error) {
    return failed(error);
  }
  if (value instanceof Promise) value.then(done, failed);
  else done(value);
}
