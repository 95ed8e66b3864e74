import { open } from '@portcullis/guard';
import { usernameKey } from '../domain/user/user.ts';
import { login } from '../flows/login.ts';
import type { Services } from '../flows/services.ts';
import { sender, type Server, tokenBody, whileWaitedFor } from './server.ts';
import { Credentials, Tokens } from './schemas.ts';

export function addLogin(app: Server, on: Services, limits: readonly string[]): void {
  app.post(
    '/login',
    {
      config: { access: open(), limits },
      schema: { summary: 'Open a session', body: Credentials, response: { 200: Tokens } },
    },
    async (request, reply) => {
      const { username, password, device_token: deviceToken } = request.body;
      await request.countUsername(usernameKey(username));
      return tokenBody(
        await whileWaitedFor(request, reply, (gone) => login(on, { username, password, deviceToken }, { ...sender(request), gone })),
      );
    },
  );
}
