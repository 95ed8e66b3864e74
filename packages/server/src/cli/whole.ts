import { WrongUsage } from './command.ts';

/** The value of an option as a whole number from 1 on. @throws {WrongUsage} */
export function whole(option: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new WrongUsage(`${option} takes a whole number from 1 to 9999999, not ${JSON.stringify(text)}`);
  return Number(text);
}
