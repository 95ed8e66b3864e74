/** For a test's `skip`: what it needs, where this machine has it not. Under CI nothing is skipped: there it fails for the want of it. */
export const without = (what: string, isThere: boolean): string | false => !isThere && !process.env.CI && `${what} is not here`;
