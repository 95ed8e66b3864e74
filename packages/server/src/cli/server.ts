import { isIPv6 } from 'node:net';
import { resolve } from 'node:path';
import { isatty } from 'node:tty';
import { DEMO_USER } from '../demo.ts';
import { Mistake } from '../mistake.ts';
import { listen } from '../settings/kinds.ts';
import type { Running } from '../running.ts';
import { setForServing } from '../engine-flags.ts';
import { command, type On } from './command.ts';
import type { Voice } from './terminal.ts';

/** Under npm a Ctrl-C arrives twice, from the terminal and from npm; only what comes later is a second one. */
const SAME_SIGNAL_MS = 300;

export const server = [
  command({
    name: 'dev',
    modes: ['dev'],
    settings: 'all',
    summary: 'Start the demo: on this machine only, with a user and a password that everyone knows',
    about: [
      `It makes what it needs, keeps it in its data folder, and has the user "${DEMO_USER.username}" with the password "${DEMO_USER.password}".`,
      'Ctrl-C or SIGTERM ends it when what is in flight is answered; a second one ends it at once. So does closing its terminal; without one, SIGHUP does what it does to "serve".',
    ],
    examples: [['dev', 'https://localhost:5000'], ['dev --port 6000 --data-dir /tmp/demo', 'elsewhere']],
    does: (on) => run(on, 'dev', greetDemo),
  }),
  command({
    name: 'serve',
    modes: ['serve'],
    settings: 'all',
    summary: 'Start the server',
    about: [
      'It needs an issuer, a master secret, and a certificate or a declared proxy that ends TLS. It starts without a user, and says so; it does not start with anything of the demo. Until there is no mistake, nothing listens: exit code 2. Those of the settings and the certificate are said all at once, then what is in the way of the store, its secret and the ports.',
      'SIGTERM or Ctrl-C ends it when what is in flight is answered; a second one ends it at once.',
      'SIGHUP opens the security log anew and looks at the certificate at once; from a terminal it ends it, as the terminal is gone then.',
      'With PORTCULLIS_WORKERS above 1 it starts so many processes on the one port, replaces one that dies, and passes these signals on; all of them are shown to operators as one.',
    ],
    examples: [
      ['serve --issuer https://api.example.com --tls-cert-file cert.pem --tls-key-file key.pem', 'with PORTCULLIS_MASTER_SECRET_FILE in the environment'],
      ['config', 'are the settings right, and the certificate?'],
    ],
    does: (on) => run(on, 'serve', greet),
  }),
];

async function run(on: On, mode: 'dev' | 'serve', say: (running: Running, voice: Voice) => void): Promise<void> {
  const { start } = await import('../start.ts');
  const { dieOfFaults } = await import('../die-of-faults.ts');
  const hangUp = onHangUp();
  const running = await start({ ...on.sources, mode });
  setForServing();
  for (const note of running.notes) on.note(note);
  hangUp?.('mistakes' in running ? undefined : running);
  if ('mistakes' in running) throw new Mistake(...running.mistakes);

  dieOfFaults(() => running.lastWords());
  const ended = endOnSignal(running);
  // Where the security log is the standard output, it is nothing else.
  const voice = running.files.securityLog === 'stdout' ? on.terminal.err : on.terminal.out;
  say(running, voice);
  await ended;
  voice.line('Ended.');
  process.exit(0); // whatever routes of one's own have left running
}

/** Resolves when a signal has come and everything is closed. A second signal ends the process where it stands. */
function endOnSignal(running: Running): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let state: 'running' | 'just asked to end' | 'ending' = 'running';
  const onSignal = (): void => {
    if (state === 'ending') process.exit(1);
    if (state !== 'running') return;
    state = 'just asked to end';
    setTimeout(() => { state = 'ending'; }, SAME_SIGNAL_MS).unref();
    running.stop().then(resolve, reject);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, onSignal);
  if (hasTerminal) process.on('SIGHUP', onSignal);
  return promise;
}

/**
 * Asked once, at the start: of a terminal that is gone, the system says that it is none. With one, SIGHUP means that it is
 * gone; without, that the log was rotated or the certificate renewed.
 */
const hasTerminal = isatty(0);

/** Takes SIGHUP from now on, lest one that comes early end the process; it is done as soon as there is a server to do it, or there is to be none. */
function onHangUp(): ((running: Running | undefined) => void) | undefined {
  if (hasTerminal) return undefined;
  const { promise, resolve } = Promise.withResolvers<Running>();
  const reload = (): void => void promise.then((running) => running.reload());
  process.on('SIGHUP', reload);
  return (running) => {
    if (running) resolve(running);
    else process.off('SIGHUP', reload);
  };
}

function greetDemo(running: Running, voice: Voice): void {
  const { made, files, address, settings } = running;
  voice.line(voice.paint('yellow', 'This is a demo, for this machine only: everyone knows its password.'));
  voice.line();
  facts(voice, [...made.map(({ what, where, how }) => [what, `${where}${how === 'kept' ? '' : voice.paint('dim', `  ${how}`)}`] as const), ['security log', files.securityLog]]);
  voice.line();
  listening(voice, settings.tlsAtProxy ? `http://localhost:${address.port}, for the proxy that ends TLS` : `https://localhost:${address.port}`);
  facts(voice, [
    ...(settings.docsPage && !settings.tlsAtProxy ? [['to read and try', `https://localhost:${address.port}/docs`] as const] : []),
    ...(running.adminAddress ? [['for operators', forOperators(running)] as const] : []),
  ]);
  voice.line();
  if (!settings.tlsAtProxy) {
    voice.line('To try it, paste these into another terminal:');
    voice.line();
    for (const line of tryIt(running)) voice.line(`  ${voice.paint('cyan', line)}`);
    voice.line();
  }
  voice.line('Ctrl-C ends it.');
}

function greet(running: Running, voice: Voice): void {
  const { settings, issuer, address, files, hasUsers } = running;
  const at = `${isIPv6(settings.host) ? `[${settings.host}]` : settings.host}:${address.port}`;
  listening(voice, settings.tlsAtProxy ? `http://${at}, for the proxy that ends TLS` : `https://${at}`);
  facts(voice, [
    ['issuer', issuer],
    ...(settings.workers > 1 ? [['workers', `${settings.workers}`] as const] : []),
    ['store', files.store],
    ...(hasUsers ? [] : [['users', 'none yet: "portcullis users add NAME" adds one'] as const]),
    ['limits', settings.redisUrl === undefined ? 'counted in this process' : 'counted in Redis, and by shares while it is away'],
    ['for operators', forOperators(running)],
    ['security log', files.securityLog],
  ]);
}

const forOperators = ({ adminAddress: at }: Running): string =>
  at ? `http://${listen.show({ host: at.address, port: at.port })}/metrics, /readyz` : 'none';

const listening = (voice: Voice, where: string): void => { voice.line(`Listening on ${voice.paint(['bold', 'green'], where)}`); };

function facts(voice: Voice, lines: readonly (readonly [what: string, value: string])[]): void {
  const width = Math.max(0, ...lines.map(([what]) => what.length));
  for (const [what, value] of lines) voice.line(`  ${voice.paint('bold', what.padEnd(width))}  ${value}`);
}

/** A login and what follows, for any POSIX shell with curl and sed. No proxy of the environment is asked the way to localhost. */
function tryIt({ made, address }: Running): string[] {
  const ca = made.find(({ what }) => what === 'certificate authority');
  const curl = `curl -sS --noproxy localhost${ca ? ' --cacert "$CA"' : ''}`;
  const login = JSON.stringify({ username: DEMO_USER.username, password: DEMO_USER.password });
  const take = (name: string): string => `$(printf %s "$TOKENS" | sed 's/.*"${name}":"\\([^"]*\\)".*/\\1/')`;
  const takeBoth = `ACCESS=${take('access_token')} REFRESH=${take('refresh_token')}`;
  return [
    `API=https://localhost:${address.port}${ca ? ` CA=${quoted(resolve(ca.where))}` : ''}`,
    `TOKENS=$(${curl} "$API/login" -H 'Content-Type: application/json' -d '${login}'); echo "$TOKENS"`,
    takeBoth,
    `${curl} "$API/protected" -H "Authorization: Bearer $ACCESS"; echo`,
    `TOKENS=$(${curl} -X POST "$API/refresh" -H "Authorization: Bearer $REFRESH"); echo "$TOKENS"`,
    takeBoth,
    `${curl} -X POST "$API/logout" -H "Authorization: Bearer $ACCESS"; echo`,
    `${curl} "$API/protected" -H "Authorization: Bearer $ACCESS"; echo`,
  ];
}

/** As one word of a POSIX shell, whatever is in it. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
