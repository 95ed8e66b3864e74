import { resolve } from 'node:path';
import { Mistake } from '../mistake.ts';
import { command, type On, WrongUsage } from './command.ts';
import type { Column } from './print.ts';

const copyColumns: readonly Column<{ file: string; bytes: number }>[] = [{ key: 'file' }, { key: 'bytes' }];

export const store = [
  command({
    name: 'migrate',
    modes: ['admin', 'dev'],
    settings: 'store',
    options: {
      status: { says: 'Only show which were run and which are due.' },
      plan: { says: 'Only show the statements that are due, as SQL of this engine.' },
    },
    summary: 'Bring the tables of the store up to this version',
    about: [
      '"serve" and "dev" do this by themselves when they start; this is for who wants to see it done before. Make a backup, and stop the server of the older version first. Where there is no store yet, one is made.',
      'All that is due is one transaction: killed in the middle, nothing has been done. Of several that begin at once, one does it and the others wait.',
    ],
    examples: [['migrate', 'runs what is due'], ['migrate --status', 'shows all'], ['migrate --plan', 'what would be run, for whoever must agree to it']],
    columns: [{ key: 'name' }, { key: 'state', style: ({ state }) => (state === 'due' ? 'yellow' : 'green') }, { key: 'ranAt', as: 'time' }, { key: 'statement', hidden: true }],
    none: 'The store is up to date: nothing was due.',
    async does(on, given) {
      if (given.status && given.plan) throw new WrongUsage('--status shows what was run, --plan what would be: say one of them');
      const { store } = await on.desk({ anyVersion: true, ...(!given.status && !given.plan && { make: true }) });
      if (given.plan) {
        const plan = (await store.plan()).map((one) => ({ ...one, state: 'due', ranAt: undefined }));
        return on.json || plan.length === 0 ? plan : showPlan(on, plan);
      }
      const ran = given.status ? [] : await store.migrate();
      const all = (await store.migrations()).map(({ name, ranAt }) => ({ name, state: ranAt ? 'run' : 'due', ranAt: ranAt?.getTime(), statement: undefined }));
      return given.status ? all : all.filter(({ name }) => ran.includes(name));
    },
  }),

  command({
    name: 'backup',
    modes: ['admin', 'dev'],
    settings: 'store',
    args: { file: { says: 'A file that is not there yet.' } },
    summary: 'Copy the store as it is now into a new file, while the server goes on',
    about: [
      'The copy is checked before it gets its name. It holds all that is stored: password hashes, sessions, and the keys, sealed under the master secret, without which the copy is of no use.',
      'To put it back: stop the server, remove portcullis.db-wal and portcullis.db-shm, put the copy in the place of portcullis.db, start the server. What was done since is undone: a session that was ended after the copy lives again, so end it again.',
    ],
    examples: [['backup /var/backups/portcullis-monday.db', 'one file, for its owner alone']],
    columns: copyColumns,
    says: ({ file, bytes }) => `Backed up to ${file}: ${bytes.toLocaleString('en')} bytes, checked.`,
    async does(on, given) {
      const { backUp } = await import('../storage/sql/backup.ts');
      const { fileOfStore } = await import('./open-store.ts');
      const from = fileOfStore(on.settings());
      const { err } = on.terminal;
      const show = (done: number): void => { if (err.isTty) err.write(`\r${Math.round(done * 100)} %`); };
      const copy = await backUp(from, given.file, show).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'EEXIST' ? new Mistake(`${error.path} is there already, and a backup overwrites nothing`) : error;
      }).finally(() => { if (err.isTty) err.write('\r     \r'); });
      if ('damage' in copy) throw new Mistake(`the store ${from} is damaged, so nothing was backed up: ${copy.damage}`);
      return { file: resolve(given.file), bytes: copy.bytes };
    },
  }),
];

/** As SQL that can be read, or kept. */
function showPlan({ terminal: { out } }: On, plan: readonly { readonly name: string; readonly statement: string }[]): void {
  plan.forEach(({ name, statement }, i) => {
    if (plan[i - 1]?.name !== name) out.line(`${i === 0 ? '' : '\n'}${out.paint('bold', `-- ${name}`)}`);
    out.line(`${statement};`);
  });
}
