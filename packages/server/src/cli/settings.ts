import { Mistake } from '../mistake.ts';
import { readSettings, showSettings } from '../settings/read.ts';
import { command } from './command.ts';

export const settings = [
  command({
    name: 'config',
    modes: ['serve', 'dev'],
    settings: 'all',
    summary: 'Show every setting and where it came from, or every mistake in them',
    about: ['The settings are read as "serve" would read them, with --dev as "dev" would. A secret is only said to be set.'],
    examples: [['config', 'would "serve" start with these?'], ['config --dev', 'the demo\'s'], ['config --port 6000 --json', 'for a program']],
    columns: [
      { key: 'name', title: 'setting' },
      { key: 'value', cut: true, style: ({ value }) => (value === 'not set' || value === 'made by dev' ? 'dim' : undefined) },
      { key: 'origin', title: 'from', style: ({ origin }) => (origin === undefined || origin === 'default' ? 'dim' : origin === 'dev' ? 'cyan' : 'green') },
    ],
    does(on) {
      const reading = readSettings(on.sources);
      for (const note of reading.notes) on.note(note);
      if ('mistakes' in reading) throw new Mistake(...reading.mistakes);
      return Promise.resolve(showSettings(reading.settings, reading.origins, on.sources.mode).map(({ name, value, origin }) => ({ name, value, origin: value === 'not set' ? undefined : origin })));
    },
  }),
];
