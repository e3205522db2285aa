/** `nodelet exec`, `attach` and `port-forward`, with an agent as it comes. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Program, podOf, shell, World } from '../../fixtures/agent.ts';

let world: World;
let agent: Program;
beforeAll(async () => {
  world = await World.open();
  agent = await world.liveAgent([]);
  const lines = shell('while read line; do echo "got $line"; echo "heard $line" >&2; done; exec sleep 1000');
  const web = shell(
    'mkdir -p /tmp/www; echo page > /tmp/www/index.html; exec httpd -f -p 127.0.0.1:80 -h /tmp/www',
  );
  const items = [
    podOf('lines', [{ ...lines, stdin: true }]),
    podOf('once', [{ ...shell('cat'), stdin: true, stdinOnce: true }], { restartPolicy: 'Never' }),
    podOf('web', [web]),
  ];
  await world.cli(['run', '-d', world.manifest({ apiVersion: 'v1', kind: 'List', items })]);
  for (const name of ['lines', 'once', 'web']) await world.untilRunning(name);
});
afterAll(async () => {
  await world?.cli(['rm', '--all', '--force']);
  const left = world?.leftovers();
  agent?.signal('SIGTERM');
  await agent?.exit;
  await world?.close();
  expect(left).toEqual([]);
});

describe('exec', () => {
  it('passes input and output, and the exit code', async () => {
    expect(
      await world.cli(['exec', '-i', 'lines', '--', 'sh', '-c', 'cat; exit 3'], { input: 'words' }),
    ).toMatchObject({
      code: 3,
      stdout: 'words',
    });
  });

  it('ends as a shell would where there is no such program', async () => {
    const { code, stderr } = await world.cli(['exec', 'lines', '--', '/no/such']);
    expect(code).toBe(127);
    expect(stderr).toContain('"/no/such"');
  });
});

describe('attach', () => {
  it('shows what the container writes and gives it a line of input', async () => {
    const { code, stdout, stderr } = await world.cli(['attach', '-i', 'once'], { input: 'some words\n' });
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'some words\n', stderr: '' });
  });

  it('leaves the container alone when it is interrupted', async () => {
    const attached = world.start(['attach', 'lines']);
    // Until the first of them has joined.
    while (!attached.stdout.includes('got hello\n'))
      expect(await world.cli(['attach', '-i', 'lines'], { input: 'hello\n' })).toMatchObject({ code: 0 });
    await attached.until(/heard hello\n/, 'stderr');
    attached.signal('SIGINT');
    await attached.exit;
    expect((await world.cli(['exec', 'lines', '--', 'true'])).code).toBe(0);
  });

  it('says that there is no terminal', async () => {
    const attached = world.start(['attach', '-t', 'lines']);
    await attached.until(/Unable to use a TTY - container c did not allocate one/, 'stderr');
    attached.signal('SIGINT');
    await attached.exit;
  });

  it('is refused for a container that does not run', async () => {
    const { code, stderr } = await world.cli(['attach', 'nobody']);
    expect(code).not.toBe(0);
    expect(stderr).toContain('nobody');
  });
});

describe('port-forward', () => {
  async function get(port: number): Promise<string> {
    const socket = connect(port, '127.0.0.1');
    socket.end('GET / HTTP/1.0\r\n\r\n');
    const chunks: Buffer[] = [];
    for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks).toString('utf8');
  }

  it('reaches what listens on the pod’s loopback address only, many times', async () => {
    const forward = world.start(['port-forward', 'web', ':80']);
    const [, port] = await forward.until(/^Forwarding from 127\.0\.0\.1:(\d+) -> 80$/m);
    const pages = await Promise.all(Array.from({ length: 10 }, () => get(Number(port))));
    for (const page of pages) expect(page).toMatch(/^HTTP\/1\.[01] 200 OK[^]*page\n$/);
    await forward.until(new RegExp(`Handling connection for ${port}`));
    forward.signal('SIGINT');
    expect((await forward.exit).code).toBe(0);
  });

  it('tells that nobody listens, and goes on', async () => {
    const forward = world.start(['port-forward', 'web', ':81', ':80']);
    const [, none] = await forward.until(/^Forwarding from 127\.0\.0\.1:(\d+) -> 81$/m);
    const [, some] = await forward.until(/^Forwarding from 127\.0\.0\.1:(\d+) -> 80$/m);
    const socket = connect(Number(none), '127.0.0.1');
    await once(socket, 'close');
    await forward.until(/error forwarding port 81 to pod .*failed to connect to localhost:81/, 'stderr');
    expect(await get(Number(some))).toContain('page');
    forward.signal('SIGINT');
    await forward.exit;
  });

  it.each([
    ['1:2:3', 'invalid port format "1:2:3"'],
    ['x', 'error parsing local port "x"'],
    ['80:0', 'error parsing remote port "0"'],
  ])('refuses %s', async (ports, words) => {
    const { code, stderr } = await world.cli(['port-forward', 'web', ports]);
    expect(code).not.toBe(0);
    expect(stderr).toContain(words);
  });
});
