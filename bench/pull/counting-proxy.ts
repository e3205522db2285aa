/** Stands in front of the registry and counts what is asked for and what is sent. */

import { once } from 'node:events';
import { createServer, request } from 'node:http';

export interface CountingProxy extends AsyncDisposable {
  readonly host: string;
  requests: number;
  /** Of bodies. */
  bytes: number;
  reset(): void;
}

export async function countingProxy(upstream: string): Promise<CountingProxy> {
  const [hostname = '', port = ''] = upstream.split(':');
  const server = createServer((from, to) => {
    proxy.requests += 1;
    const { method, url, headers } = from;
    const ask = request({ hostname, port, method, path: url, headers }, (answer) => {
      to.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.on('data', (chunk: Buffer) => {
        proxy.bytes += chunk.length;
      });
      answer.pipe(to);
      to.on('close', () => answer.destroy());
    });
    ask.on('error', () => to.destroy());
    from.pipe(ask);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const proxy: CountingProxy = {
    host: `127.0.0.1:${address.port}`,
    requests: 0,
    bytes: 0,
    reset() {
      proxy.requests = 0;
      proxy.bytes = 0;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return proxy;
}
