import { findBearer, refreshToken } from '@portcullis/guard';
import { Problem } from '../domain/problem.ts';
import { refresh } from '../flows/refresh.ts';
import type { Services } from '../flows/services.ts';
import { origin, type Server, tokenBody } from './server.ts';
import { NoBody, Tokens } from './schemas.ts';

export function addRefresh(app: Server, on: Services, limits: readonly string[]): void {
  app.post(
    '/refresh',
    {
      config: { access: refreshToken(), limits },
      schema: { summary: 'Get the next tokens of a session', body: NoBody, response: { 200: Tokens } },
    },
    async (request) => {
      const found = findBearer(request.headers.authorization, 'refresh');
      if ('problem' in found) throw new Problem(found.problem);
      return tokenBody(await refresh(on, found.token, origin(request)));
    },
  );
}
