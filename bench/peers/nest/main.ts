import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { ThrottlerStorageRedisService } from '@nest-lab/throttler-storage-redis';
import {
  Body,
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  HttpCode,
  Injectable,
  Module,
  Post,
  Req,
  UnauthorizedException,
  UseGuards,
} from '@nestjs/common';
import { APP_GUARD, NestFactory } from '@nestjs/core';
import { JwtModule, JwtService } from '@nestjs/jwt';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { ThrottlerGuard, ThrottlerModule } from '@nestjs/throttler';
import type { Request } from 'express';
import helmet from 'helmet';
import { Redis } from 'ioredis';
import { isTheUser, limit, listensOn, origin, redisUrl, secret, tls, tokenTtl } from '../given.ts';

type User = { sub: string; jti: string; exp: number };
type Signed = Request & { user: User };

const redis = new Redis(redisUrl, { enableAutoPipelining: true });

@Injectable()
class AuthGuard implements CanActivate {
  private readonly jwt: JwtService;
  private readonly redis: Redis;
  constructor(jwt: JwtService, redis: Redis) {
    this.jwt = jwt;
    this.redis = redis;
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<Signed>();
    const [type, token] = request.headers.authorization?.split(' ') ?? [];
    if (type !== 'Bearer' || !token) throw new UnauthorizedException();
    const user = await this.jwt.verifyAsync<User>(token).catch(() => {
      throw new UnauthorizedException();
    });
    if ((await this.redis.exists(`revoked:${user.jti}`)) === 1) throw new UnauthorizedException();
    request.user = user;
    return true;
  }
}

@Controller()
class AuthController {
  private readonly jwt: JwtService;
  private readonly redis: Redis;
  constructor(jwt: JwtService, redis: Redis) {
    this.jwt = jwt;
    this.redis = redis;
  }

  @Post('login')
  @HttpCode(200)
  async login(@Body() body: { username?: unknown; password?: unknown }) {
    if (!isTheUser(body)) throw new UnauthorizedException('Invalid credentials');
    return { access_token: await this.jwt.signAsync({ sub: 'testuser', jti: randomUUID() }) };
  }

  @UseGuards(AuthGuard)
  @Get('protected')
  protected(@Req() { user }: Signed) {
    return { logged_in_as: user.sub };
  }

  @UseGuards(AuthGuard)
  @Post('logout')
  @HttpCode(200)
  async logout(@Req() { user }: Signed) {
    await this.redis.set(`revoked:${user.jti}`, '', 'EXAT', user.exp);
    return { msg: 'Successfully logged out' };
  }
}

@Module({
  imports: [
    JwtModule.register({ secret, signOptions: { expiresIn: tokenTtl } }),
    ThrottlerModule.forRoot({
      throttlers: [{ limit: limit.max, ttl: limit.windowMs }],
      storage: new ThrottlerStorageRedisService(redis),
    }),
  ],
  controllers: [AuthController],
  providers: [
    { provide: APP_GUARD, useClass: ThrottlerGuard },
    { provide: Redis, useValue: redis },
  ],
})
class AppModule {}

const { keepAliveTimeout, ...httpsOptions } = tls;
const app = await NestFactory.create<NestExpressApplication>(AppModule, { httpsOptions, logger: ['error', 'warn'] });
app.set('etag', false);
app.use(helmet());
app.enableCors({ origin });
await app.listen(0, '127.0.0.1');
const server = app.getHttpServer();
server.keepAliveTimeout = keepAliveTimeout;
listensOn((server.address() as AddressInfo).port); // a TCP server
