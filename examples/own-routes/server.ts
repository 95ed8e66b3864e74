import { signedIn } from '@portcullis/guard';
import { start } from 'portcullis';
import { z } from 'zod';

const notesOf = new Map<string, string[]>();
const note = z.strictObject({ text: z.string().max(1_000) });

const running = await start({
  mode: 'dev',
  env: process.env,
  routes(app) {
    app.get('/notes', { config: { access: signedIn() } }, ({ caller }) => notesOf.get(caller.userId) ?? []);

    const add = { access: signedIn(), limits: ['10 per minute by caller'] };
    app.post('/notes', { config: add, schema: { body: note } }, ({ caller, body }, reply) => {
      notesOf.set(caller.userId, [...(notesOf.get(caller.userId) ?? []), body.text]);
      reply.code(201).send(body);
    });
  },
});

if ('mistakes' in running) {
  for (const mistake of running.mistakes) console.error(mistake);
  process.exit(2);
}
console.log(`Listening on https://localhost:${running.address.port}`);
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void running.stop());
