/** Each verb on the real kernel, as conmon and containerd call them. */
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Json, OciFixture } from '../fixtures/oci.ts';
import { hierarchiesOf } from '../fixtures/oci-cgroups.ts';

const LOOP = ['sh', '-c', 'trap "exit 3" TERM; touch /tmp/up; while :; do sleep 0.05; done'];

let oci: OciFixture;
beforeAll(() => {
  oci = new OciFixture();
});
afterAll(() => {
  oci?.[Symbol.dispose]();
});

/** Until the container says so itself: a file that its program makes. */
async function running(id: string): Promise<void> {
  await vi.waitFor(() => oci.ok(['exec', id, 'test', '-e', '/tmp/up']), { timeout: 20_000 });
}

async function stopped(id: string): Promise<void> {
  await expect.poll(() => oci.state(id).status, { timeout: 10_000 }).toBe('stopped');
}

describe('life', () => {
  test('create, start, kill, delete: each state says so, and nothing is left', async () => {
    const bundle = oci.bundle(LOOP, (config) => (config.root.readonly = false));
    const { id, directory } = bundle;
    const pidFile = join(directory, 'pid');
    expect(oci.create(bundle, ['--pid-file', pidFile])).toEqual({ status: 0, stderr: '' });
    const created = oci.state(id);
    expect(created).toMatchObject({ id, status: 'created', bundle: directory, ociVersion: '1.2.0' });
    expect(Number(readFileSync(pidFile, 'utf8'))).toBe(created.pid);
    // The program waits: it is the shim's own until it is started, and has nothing of the host open.
    expect(readFileSync(`/proc/${created.pid}/cmdline`, 'utf8')).toContain('nodelet-shim');

    oci.ok(['start', id]);
    await running(id);
    expect(oci.state(id).status).toBe('running');
    expect(oci.run(['start', id]).stderr).toContain('already running');
    expect(oci.run(['delete', id])).toMatchObject({ status: 1 });
    expect(oci.run(['delete', id]).stderr).toContain('--force');
    oci.ok(['kill', id, 'TERM']);
    await stopped(id);
    expect(oci.run(['kill', id]).stderr).toContain('container not running');
    oci.ok(['delete', id]);
    expect(oci.run(['state', id]).stderr).toContain('does not exist');
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('run gives the exit status and its output, and deletes', () => {
    const { id, directory } = oci.bundle(['sh', '-c', 'cat; echo out; echo err >&2; exit 7']);
    const done = oci.run(['run', '--bundle', directory, id], { input: 'in\n' });
    expect(done).toMatchObject({ status: 7, stdout: 'in\nout\n', stderr: 'err\n' });
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('run hands signals on, and tells of a killed program by 128 and the signal', async () => {
    const { id, directory } = oci.bundle(LOOP, (config) => (config.root.readonly = false));
    const child = oci.start(['run', '--bundle', directory, id], { stdio: 'ignore' });
    const code = new Promise((resolve) => child.once('exit', resolve));
    await expect.poll(() => oci.run(['state', id]).status, { timeout: 10_000 }).toBe(0);
    await running(id);
    child.kill('SIGTERM');
    expect(await code).toBe(3);

    const killed = oci.bundle(['sh', '-c', 'kill -9 $$'], (config) => {
      // A first process of a namespace cannot kill itself.
      config.linux.namespaces = config.linux.namespaces.filter((one: { type: string }) => one.type !== 'pid');
      config.linux.maskedPaths = [];
    });
    expect(oci.run(['run', '--bundle', killed.directory, killed.id]).status).toBe(137);
    expect(oci.leftovers(killed.id)).toEqual([]);
  });

  test('run --detach leaves it running, --keep leaves it to be looked at', async () => {
    const one = oci.bundle(LOOP, (config) => (config.root.readonly = false));
    oci.run(['run', '--detach', '--bundle', one.directory, one.id], { stdio: 'ignore' });
    await running(one.id);
    oci.ok(['delete', '--force', one.id]);
    expect(oci.leftovers(one.id)).toEqual([]);

    const two = oci.bundle(['true']);
    expect(oci.run(['run', '--keep', '--bundle', two.directory, two.id]).status).toBe(0);
    expect(oci.state(two.id)).toMatchObject({ status: 'stopped', pid: 0 });
    oci.ok(['delete', two.id]);
  });

  test('a container that was never started can be given up', () => {
    const bundle = oci.bundle(['true']);
    expect(oci.create(bundle).status).toBe(0);
    oci.ok(['delete', bundle.id]);
    expect(oci.leftovers(bundle.id)).toEqual([]);
  });

  test('an id is one container: the second create fails and the first is untouched', () => {
    const bundle = oci.bundle(['true']);
    expect(oci.create(bundle).status).toBe(0);
    expect(oci.create(bundle).stderr).toContain('container with id exists');
    expect(oci.state(bundle.id).status).toBe('created');
    oci.ok(['delete', bundle.id]);
  });

  test('list shows containers, by table, JSON and id', () => {
    const bundle = oci.bundle(['true']);
    oci.create(bundle);
    expect(oci.ok(['list', '--quiet'])).toContain(`${bundle.id}\n`);
    expect(oci.ok(['list'])).toMatch(new RegExp(`${bundle.id} +\\d+ +created`));
    expect(JSON.parse(oci.ok(['list', '--format', 'json']))).toContainEqual(
      expect.objectContaining({ id: bundle.id, status: 'created' }),
    );
    oci.ok(['delete', bundle.id]);
  });
});

describe('exec', () => {
  let id: string;
  beforeAll(async () => {
    const bundle = oci.bundle(LOOP, (config) => {
      config.root.readonly = false;
      config.process.env.push('COLOUR=green');
      config.process.capabilities = {
        bounding: ['CAP_KILL'],
        effective: ['CAP_KILL'],
        permitted: ['CAP_KILL'],
      };
    });
    id = bundle.id;
    oci.create(bundle);
    oci.ok(['start', id]);
    await running(id);
  });

  test('joins the container: its processes, its name, its environment, its limits on privileges', () => {
    const text = oci.ok([
      'exec',
      id,
      'sh',
      '-c',
      'hostname; echo $COLOUR; echo $HOME; ps | wc -l; grep -E "CapEff|NoNewPrivs" /proc/self/status',
    ]);
    expect(text).toMatch(
      /^nodelet\ngreen\n\/root\n[4-6]\nNoNewPrivs:\t1\nCapEff:\t0000000000000020\n$|^nodelet\ngreen\n\/root\n[4-6]\nCapEff:\t0000000000000020\nNoNewPrivs:\t1\n$/,
    );
  });

  test('gives exit statuses, input and both outputs', () => {
    expect(oci.run(['exec', id, 'sh', '-c', 'cat; echo e >&2; exit 9'], { input: 'hello' })).toMatchObject({
      status: 9,
      stdout: 'hello',
      stderr: 'e\n',
    });
  });

  test('takes user, groups, directory, environment and capabilities', () => {
    const text = oci.ok([
      'exec',
      '--user',
      '1000:1001',
      '--additional-gids',
      '7',
      '--cwd',
      '/tmp',
      '--env',
      'A=b c',
      '--cap',
      'CAP_SYS_TIME',
      id,
      'sh',
      '-c',
      'id; pwd; echo "$A"; echo $HOME; grep CapBnd /proc/self/status',
    ]);
    expect(text).toContain('uid=1000(web) gid=1001 groups=7');
    expect(text).toContain('\n/tmp\nb c\n/srv\n');
    expect(text).toContain('CapBnd:\t0000000002000020');
  });

  test('reads a process of runtime-spec, and detaches with a pid file', async () => {
    const file = join(oci.directory, 'process.json');
    const pidFile = join(oci.directory, 'exec.pid');
    writeFileSync(
      file,
      JSON.stringify({
        user: { uid: 0, gid: 0 },
        args: ['sh', '-c', 'touch /tmp/detached; sleep 0.2'],
        env: ['PATH=/bin'],
        cwd: '/',
      }),
    );
    oci.run(['exec', '--detach', '--process', file, '--pid-file', pidFile, id], { stdio: 'ignore' });
    expect(Number(readFileSync(pidFile, 'utf8'))).toBeGreaterThan(1);
    await expect.poll(() => oci.run(['exec', id, 'test', '-e', '/tmp/detached']).status).toBe(0);
  });

  test('says of a missing program what its callers look for', () => {
    expect(oci.run(['exec', id, 'nope'])).toMatchObject({ status: 1 });
    expect(oci.run(['exec', id, 'nope']).stderr).toContain('executable file "nope" not found in $PATH');
    expect(oci.run(['exec', id, '/etc']).stderr).toContain('Permission denied');
  });

  test('ps lists what runs, for people and for programs', () => {
    const pids = JSON.parse(oci.ok(['ps', '--format', 'json', id])) as number[];
    expect(pids).toContain(oci.state(id).pid);
    expect(oci.ok(['ps', id])).toContain(String(oci.state(id).pid));
  });

  test('pause stops everything, refuses exec, and resume lets it go on', () => {
    oci.ok(['pause', id]);
    expect(oci.state(id).status).toBe('paused');
    expect(oci.run(['exec', id, 'true']).stderr).toContain('paused');
    expect(oci.run(['pause', id]).status).toBe(1);
    oci.ok(['resume', id]);
    expect(oci.state(id).status).toBe('running');
    expect(oci.run(['exec', id, 'true']).status).toBe(0);
  });

  test('update changes limits of what runs, and nothing where one value is wrong', () => {
    oci.ok(['update', '--memory', '64m', '--pids-limit', '33', '--cpu-quota', '50000', id]);
    expect(oci.value(id, 'memory.limit_in_bytes', 'memory.max')).toBe(String(64 * 2 ** 20));
    expect(oci.value(id, 'pids.max', 'pids.max')).toBe('33');
    expect(oci.value(id, 'cpu.cfs_quota_us', 'cpu.max')).toMatch(/^50000/);
    oci.ok(['update', '--resources', '-', id], {
      input: '{"memory":{"limit":134217728},"pids":{"limit":34}}',
    });
    expect(oci.value(id, 'memory.limit_in_bytes', 'memory.max')).toBe(String(128 * 2 ** 20));
    const wrong = oci.run(['update', '--resources', '-', id], {
      input: '{"pids":{"limit":35},"cpu":{"cpus":"4095"}}',
    });
    expect(wrong).toMatchObject({ status: 1 });
    expect(wrong.stderr).toContain('cpu.cpus');
    expect(oci.value(id, 'pids.max', 'pids.max')).toBe('34');
    expect(
      oci.run(['update', '--resources', '-', id], { input: '{"rdma":{"a":{"hcaHandles":1}}}' }).stderr,
    ).toContain('resources.rdma');
  });

  test('events --stats tells what is used', () => {
    const event = JSON.parse(oci.ok(['events', '--stats', id])) as {
      type: string;
      data: { pids: { current: number }; memory: { usage: { usage: number } } };
    };
    expect(event.type).toBe('stats');
    expect(event.data.pids.current).toBeGreaterThan(0);
    expect(event.data.memory.usage.usage).toBeGreaterThan(0);
  });

  test('kill --all reaches every process', async () => {
    oci.ok(['kill', '--all', id, 'KILL']);
    await stopped(id);
    oci.ok(['delete', id]);
    expect(oci.leftovers(id)).toEqual([]);
  });
});

describe('what a caller hands over', () => {
  test('descriptors are kept by number', () => {
    const { id, directory } = oci.bundle(['sh', '-c', 'cat <&3; cat <&4; ls /proc/self/fd']);
    const done = oci.shell(
      `printf one >${directory}/1; printf two >${directory}/2; $OCI run --preserve-fds 2 --bundle ${directory} ${id} 3<${directory}/1 4<${directory}/2`,
    );
    expect(done.stdout).toBe('onetwo0\n1\n2\n3\n4\n5\n');
    const missing = oci.run(['create', '--preserve-fds', '9', '--bundle', directory, id]);
    expect(missing.stderr).toContain('is not open');
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('a terminal goes to the console socket', async () => {
    const { id, directory } = oci.bundle(
      ['sh', '-c', 'tty; stty size; test -c /dev/console && echo console'],
      (config) => {
        config.process.terminal = true;
        config.process.consoleSize = { width: 97, height: 31 };
      },
    );
    // The descriptor comes along with one message: python reads it and copies the terminal.
    const receiver = `import array,os,socket,sys
s=socket.socket(socket.AF_UNIX); s.bind("${directory}/console"); s.listen(1); print("ready",flush=True)
c,_=s.accept(); data,anc,_,_=c.recvmsg(4096,socket.CMSG_SPACE(4)); fd=array.array("i"); fd.frombytes(anc[0][2][:4])
out=b""
try:
  while True:
    part=os.read(fd[0],4096)
    if not part: break
    out+=part
except OSError: pass
sys.stdout.write(data.decode()+"|"+out.decode())`;
    writeFileSync(join(directory, 'receiver.py'), receiver);
    const done =
      oci.shell(`python3 ${directory}/receiver.py >${directory}/out & for i in $(seq 100); do grep -q ready ${directory}/out && break; sleep 0.05; done
$OCI create --bundle ${directory} --console-socket ${directory}/console ${id} && $OCI start ${id}; wait; cat ${directory}/out`);
    expect(done.stdout).toContain('/dev/ptmx|');
    expect(done.stdout).toContain('/dev/pts/0\r\n31 97\r\nconsole\r\n');
    oci.ok(['delete', '--force', id]);
    expect(oci.run(['create', '--bundle', directory, id]).stderr).toContain('--console-socket');
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('a console socket that nobody listens on is an error before anything is made', () => {
    const { id, directory } = oci.bundle(['true'], (config) => (config.process.terminal = true));
    expect(
      oci.run(['create', '--bundle', directory, '--console-socket', '/nonexistent/x', id]).stderr,
    ).toContain('console socket');
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('what goes wrong is in the log, as JSON', () => {
    const log = join(oci.directory, 'log');
    oci.run(['--log', log, '--log-format', 'json', 'state', 'nobody']);
    expect(JSON.parse(readFileSync(log, 'utf8'))).toMatchObject({
      level: 'error',
      msg: expect.stringContaining('"nobody" does not exist') as string,
    });
  });
});

describe('hooks', () => {
  test('run at their points, with the state on standard input', () => {
    const { id, directory, rootfs } = oci.bundle(['sh', '-c', 'echo program >>/tmp/log'], (config) => {
      config.root.readonly = false;
    });
    const log = `${rootfs}/tmp/log`;
    const hook = (name: string, inside = false) => ({
      path: '/bin/sh',
      args: [
        'sh',
        '-c',
        `grep -o '"status":"[a-z]*"' | { read s; echo ${name} $s >>${inside ? '/tmp/log' : log}; }`,
      ],
      env: ['PATH=/bin:/usr/bin'],
    });
    const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    config.hooks = {
      prestart: [hook('prestart')],
      createRuntime: [hook('createRuntime')],
      createContainer: [hook('createContainer')],
      startContainer: [hook('startContainer', true)],
      poststart: [hook('poststart')],
      poststop: [hook('poststop')],
    };
    writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
    expect(oci.run(['run', '--bundle', directory, id])).toMatchObject({ status: 0, stderr: '' });
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines.slice(0, 4)).toEqual([
      'prestart "status":"creating"',
      'createRuntime "status":"creating"',
      'createContainer "status":"creating"',
      'startContainer "status":"created"',
    ]);
    // The program runs beside what comes after its start.
    expect(lines.slice(4, 6).sort()).toEqual(['poststart "status":"running"', 'program']);
    expect(lines[6]).toBe('poststop "status":"stopped"');
  });

  test.each(['prestart', 'createRuntime', 'createContainer'])(
    '%s that fails ends the create, and nothing is left',
    (kind) => {
      const { id, directory } = oci.bundle(['true'], (config) => {
        config.hooks = { [kind]: [{ path: '/bin/sh', args: ['sh', '-c', 'exit 4'] }] };
      });
      const done = oci.run(['create', '--bundle', directory, id], { stdio: ['ignore', 'ignore', 'pipe'] });
      expect(done.status).toBe(1);
      expect(done.stderr).toMatch(/hook.*exit status 4/);
      expect(oci.leftovers(id)).toEqual([]);
    },
  );

  test('startContainer that fails is told by start', () => {
    const bundle = oci.bundle(['true'], (config) => {
      config.hooks = { startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'exit 4'] }] };
    });
    expect(oci.create(bundle).status).toBe(0);
    expect(oci.run(['start', bundle.id]).stderr).toContain('exit status 4');
    oci.ok(['delete', '--force', bundle.id]);
    expect(oci.leftovers(bundle.id)).toEqual([]);
  });

  test('one that hangs is ended at its timeout', () => {
    const { id, directory } = oci.bundle(['true'], (config) => {
      config.hooks = { createContainer: [{ path: '/bin/sleep', args: ['sleep', '1000'], timeout: 1 }] };
    });
    const done = oci.run(['create', '--bundle', directory, id], { stdio: ['ignore', 'ignore', 'pipe'] });
    expect(done.stderr).toContain('not done in 1 s');
    expect(oci.leftovers(id)).toEqual([]);
  });
});

describe('config.json', () => {
  const text = (command: string, change: Parameters<OciFixture['bundle']>[1] = () => {}): string => {
    const { id, directory } = oci.bundle(['sh', '-c', command], change);
    const done = oci.run(['run', '--bundle', directory, id]);
    expect(oci.leftovers(id)).toEqual([]);
    return done.stdout + done.stderr;
  };

  test('identity: user, groups, umask, capabilities, rlimits, oom score', () => {
    const out = text(
      'id; umask; grep -E "^Cap(Inh|Prm|Eff|Bnd|Amb)" /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj',
      (config) => {
        config.process.user = { uid: 1000, gid: 1001, additionalGids: [5, 6], umask: 0o27 };
        const caps = ['CAP_NET_BIND_SERVICE'];
        config.process.capabilities = {
          bounding: caps,
          effective: caps,
          permitted: caps,
          inheritable: caps,
          ambient: caps,
        };
        config.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 77, hard: 99 }];
        config.process.oomScoreAdj = 500;
      },
    );
    expect(out).toMatch(/uid=1000\S* gid=1001 groups=5,6/);
    expect(out).toContain('0027\n');
    expect(out.match(/0000000000000400/g)).toHaveLength(5);
    expect(out).toContain('77\n500\n');
  });

  test('mounts: bind, read-only for the whole tree, tmpfs with what was there, propagation', () => {
    const host = join(oci.directory, 'volume');
    mkdirSync(host, { recursive: true });
    writeFileSync(join(host, 'file'), 'from the host');
    const out = text(
      'cat /data/file; touch /ro/x; cat /etc/passwd | head -1; touch /etc/new && echo copied',
      (config) => {
        config.mounts.push(
          { destination: '/data', type: 'bind', source: host, options: ['rbind', 'rw'] },
          { destination: '/ro', source: host, options: ['rbind', 'rro'] },
          { destination: '/etc', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup', 'mode=755'] },
        );
        config.root.readonly = false;
      },
    );
    expect(out).toContain('from the host');
    expect(out).toContain('Read-only file system');
    expect(out).toContain('root:x:0:0');
    expect(out).toContain('copied');
  });

  test('a file system of its own shows its source, or its type where there is none', () => {
    const out = text('cat /proc/self/mounts', (config) => {
      config.mounts.push(
        { destination: '/named', type: 'tmpfs', source: 'scratch', options: ['size=1m'] },
        { destination: '/plain', type: 'tmpfs' },
      );
      config.root.readonly = false;
    });
    expect(out).toMatch(/^scratch \/named tmpfs .*size=1024k/m);
    expect(out).toMatch(/^tmpfs \/plain tmpfs /m);
    expect(out).toMatch(/^shm \/dev\/shm tmpfs /m);
  });

  test('a device is mounted by its path: one that is none is an error with its name', () => {
    const { id, directory } = oci.bundle(['true'], (config) => {
      config.mounts.push({ destination: '/disk', type: 'ext4', source: '/dev/zero' });
      config.root.readonly = false;
    });
    const done = oci.run(['run', '--bundle', directory, id]);
    expect(done.status).toBe(1);
    expect(done.stderr).toContain('/dev/zero');
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('namespaces by path, hostname, sysctls', () => {
    const first = oci.bundle(LOOP, (config) => {
      config.hostname = 'first';
      config.root.readonly = false;
      config.linux.sysctl = { 'net.ipv4.ip_forward': '1', 'kernel.shmmax': '4096' };
    });
    oci.create(first);
    oci.ok(['start', first.id]);
    const { pid } = oci.state(first.id) as { pid: number };
    const out = text('hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; ps', (config) => {
      delete config.hostname;
      const paths: Record<string, string> = { network: 'net', uts: 'uts', ipc: 'ipc', pid: 'pid' };
      for (const one of config.linux.namespaces)
        if (paths[one.type] !== undefined) one.path = `/proc/${pid}/ns/${paths[one.type]}`;
    });
    expect(out).toContain('first\n1\n4096\n');
    expect(out).toContain('while :; do sleep');
    oci.ok(['delete', '--force', first.id]);
  });

  test('a user namespace with its maps', () => {
    const { id, directory, rootfs } = oci.bundle(
      ['sh', '-c', 'cat /proc/self/uid_map; id -u; ls /dev'],
      (config) => {
        config.linux.namespaces.push({ type: 'user' });
        config.linux.uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
        config.linux.gidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
      },
    );
    // Whoever asks for a user namespace brings a root that belongs to it: mount points are made in it.
    chownSync(rootfs, 100000, 100000);
    const out = oci.ok(['run', '--bundle', directory, id]);
    expect(out).toMatch(/0 +100000 +65536\n0\n/);
    expect(out).toContain('null');
    expect(oci.leftovers(id)).toEqual([]);
  });

  test('seccomp: an action with its errno', () => {
    const out = text('mkdir /tmp/x; echo after', (config) => {
      config.root.readonly = false;
      config.process.noNewPrivileges = false;
      config.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 28 }],
      };
    });
    expect(out).toContain('No space left on device');
    expect(out).toContain('after');
  });

  test('masked and read-only paths, a root that cannot be written', () => {
    const out = text('wc -c </proc/keys; echo x >/proc/sys/kernel/domainname; touch /x');
    expect(out).toContain('0\n');
    expect(out.match(/Read-only file system/g)).toHaveLength(2);
  });

  test('limits are there before the program is', () => {
    const bundle = oci.bundle(['true'], (config) => {
      config.linux.resources.memory = { limit: 48 * 2 ** 20, swappiness: undefined };
      config.linux.resources.pids = { limit: 21 };
      config.linux.resources.cpu = { shares: 512, quota: 30000, period: 100000 };
    });
    expect(oci.create(bundle)).toMatchObject({ status: 0 });
    expect(oci.value(bundle.id, 'memory.limit_in_bytes', 'memory.max')).toBe(String(48 * 2 ** 20));
    expect(oci.value(bundle.id, 'pids.max', 'pids.max')).toBe('21');
    oci.ok(['delete', bundle.id]);
  });

  test('devices: those that are given are there, others may not be opened', () => {
    const out = text('cat </dev/mine | head -c 3 | wc -c; cat /dev/other', (config) => {
      config.process.user = { uid: 0, gid: 0 };
      config.linux.devices = [
        { path: '/dev/mine', type: 'c', major: 1, minor: 5, fileMode: 0o666 },
        { path: '/dev/other', type: 'c', major: 1, minor: 11, fileMode: 0o666 },
      ];
    });
    expect(out).toContain('3\n');
    expect(out).toContain("can't open '/dev/other': Operation not permitted");
  });
});

describe('what cannot be meant is refused by name, and nothing is made', () => {
  test.each([
    [
      'an unknown field',
      (c: Json): unknown => (c.linux.maskedPath = ['/proc/kcore']),
      'linux.maskedPath: unknown field',
    ],
    [
      'a field that is not done',
      (c: Json): unknown => (c.linux.intelRdt = { closID: 'x' }),
      'linux.intelRdt is not supported',
    ],
    ['a time namespace', (c: Json): unknown => c.linux.namespaces.push({ type: 'time' }), 'time namespace'],
    ['no mount namespace', (c: Json): unknown => (c.linux.namespaces = [{ type: 'pid' }]), 'mount namespace'],
    [
      'a user namespace without maps',
      (c: Json): unknown => c.linux.namespaces.push({ type: 'user' }),
      'linux.uidMappings',
    ],
    ['a uid that is none', (c: Json): unknown => (c.process.user.uid = 4294967295), 'process.user.uid'],
    ['a negative uid', (c: Json): unknown => (c.process.user.uid = -1), 'process.user.uid'],
    [
      'a sysctl of the host',
      (c: Json): unknown => (c.linux.sysctl = { 'vm.swappiness': '1' }),
      'vm.swappiness',
    ],
    ['a relative working directory', (c: Json): unknown => (c.process.cwd = 'tmp'), 'process.cwd'],
    ['no program', (c: Json): unknown => (c.process.args = []), 'process.args'],
    [
      'a seccomp supervisor',
      (c: Json): unknown =>
        (c.linux.seccomp = {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }],
        }),
      'SCMP_ACT_NOTIFY',
    ],
    ['a cgroup of systemd', (c: Json): unknown => (c.linux.cgroupsPath = 'system.slice:oci:x'), 'cgroupfs'],
    ['a cgroup that leads elsewhere', (c: Json): unknown => (c.linux.cgroupsPath = '/a/../b'), '".."'],
    [
      'a mount option of nobody',
      (c: Json): unknown =>
        c.mounts.push({ destination: '/x', type: 'tmpfs', source: 't', options: ['frobnicate'] }),
      'frobnicate',
    ],
    ['no root', (c: Json): unknown => (c.root.path = 'nowhere'), 'root.path'],
    [
      'an SELinux label',
      (c: Json): unknown => (c.process.selinuxLabel = 'system_u:object_r:x:s0'),
      'process.selinuxLabel',
    ],
    [
      'limits of the network',
      (c: Json): unknown => (c.linux.resources.network = { classID: 3 }),
      'linux.resources.network',
    ],
    ['another platform', (c: Json): unknown => (c.windows = { layerFolders: ['x'] }), 'windows'],
    [
      'a rlimit twice',
      (c: Json): unknown =>
        (c.process.rlimits = [
          { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
          { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
        ]),
      'process.rlimits[1]',
    ],
  ] as const)('%s', (_, change, words) => {
    const bundle = oci.bundle(['true'], change);
    const done = oci.create(bundle);
    expect(done.status).toBe(1);
    expect(done.stderr).toContain(words);
    expect(oci.leftovers(bundle.id)).toEqual([]);
  });

  test('of a cgroup path that leads elsewhere nothing is made', () => {
    const bundle = oci.bundle(['true']);
    bundle.config.linux.cgroupsPath = `${oci.cgroup}-elsewhere/../x/y`;
    bundle.write();
    expect(oci.create(bundle).stderr).toContain('".."');
    for (const root of hierarchiesOf()) expect(existsSync(`${root}${oci.cgroup}-elsewhere`)).toBe(false);
  });

  test.each(['../x', '.', '..', 'a/b', '', 'a b', 'x'.repeat(300)])('the id %j', (id) => {
    const { directory } = oci.bundle(['true']);
    expect(oci.run(['create', '--bundle', directory, '--', id])).toMatchObject({ status: 1 });
    expect(oci.run(['delete', '--force', '--', id]).stderr).toContain('invalid container id');
  });

  test.each([
    [['--systemd-cgroup', 'list'], 'cgroupfs'],
    [['frob'], 'unknown command'],
    [['list', '--frob'], 'unknown option'],
    [['create', '--no-pivot', 'x'], 'pivot_root'],
    [['kill', 'x', 'SIGNOTHING'], 'unknown signal'],
    [['create'], 'usage: create'],
    [['create', '--bundle', '/nonexistent', 'x'], 'config.json'],
    [['--log-format', 'xml', 'list'], '--log-format'],
  ] as const)('%j', (args, words) => {
    const done = oci.run(args);
    expect(done.status).not.toBe(0);
    expect(done.stderr).toContain(words);
  });

  test('an unknown field of the top level is passed over with a word, as the specification wants it', () => {
    const { id, directory } = oci.bundle(['echo', 'fine'], (config) => (config.somethingNew = { a: 1 }));
    const done = oci.run(['run', '--bundle', directory, id]);
    expect(done).toMatchObject({ status: 0, stdout: 'fine\n' });
    expect(done.stderr).toContain('somethingNew');
  });
});
