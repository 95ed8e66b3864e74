import { Mistake } from '../mistake.ts';
import { readSettings, showSettings } from '../settings/read.ts';
import { command } from './command.ts';

export const settings = [
  command({
    name: 'config',
    modes: ['serve', 'dev'],
    settings: 'all',
    summary: 'Show every setting and where it came from, or every mistake in them',
    about: [
      'The settings are read as "serve" would read them, with --dev as "dev" would. A secret is only said to be set.',
      'The files of the certificate are looked at too, and that nothing of a demo is meant for "serve". What only a start finds out: whether the secret opens the store, and whether its ports are free.',
    ],
    examples: [['config', 'are the settings right, and the certificate?'], ['config --dev', 'the demo\'s'], ['config --port 6000 --json', 'for a program']],
    columns: [
      { key: 'name', title: 'setting' },
      { key: 'value', cut: true, style: ({ value }) => (value === 'not set' || value === 'made by dev' ? 'dim' : undefined) },
      { key: 'origin', title: 'from', style: ({ origin }) => (origin === undefined || origin === 'default' ? 'dim' : origin === 'dev' ? 'cyan' : 'green') },
    ],
    async does(on) {
      const { moreMistakes } = await import('../start.ts');
      const mode = on.sources.mode === 'dev' ? 'dev' : 'serve';
      const reading = readSettings(on.sources);
      for (const note of reading.notes) on.note(note);
      if ('mistakes' in reading) throw new Mistake(...reading.mistakes, ...(await moreMistakes(mode, reading.known)));
      const more = await moreMistakes(mode, reading.settings);
      if (more.length > 0) throw new Mistake(...more);
      return showSettings(reading.settings, reading.origins, mode).map(({ name, value, origin }) => ({ name, value, origin: value === 'not set' ? undefined : origin }));
    },
  }),
];
