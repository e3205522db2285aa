import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  cdiEdits,
  parseCdiSpec,
  parseDeviceName,
  readCdiFiles,
  requestedCdiDevices,
} from '../../../src/runtime/cdi/index.ts';

const SPEC = {
  cdiVersion: '0.6.0',
  kind: 'example.com/toy',
  containerEdits: { env: ['ALL=1'] },
  devices: [
    {
      name: 'one',
      containerEdits: { env: ['ONE=1'], deviceNodes: [{ path: '/dev/toy', type: 'c', major: 1, minor: 3 }] },
    },
    {
      name: 'two',
      containerEdits: {
        additionalGids: [44],
        mounts: [{ hostPath: '/etc', containerPath: '/toy', options: ['ro', 'bind'] }],
      },
    },
    { name: 'hooked', containerEdits: { hooks: [{ hookName: 'createContainer', path: '/bin/x' }] } },
  ],
};

describe('the names of devices', () => {
  test.each(['example.com/toy=one', 'nvidia.com/gpu=0', 'a.b/c_d=GPU-1:2.3'])('%s', (name) => {
    expect(parseDeviceName(name).device).toBe(name.slice(name.indexOf('=') + 1));
  });

  test.each([
    '',
    'toy=one',
    'example.com/toy',
    'example.com/toy=',
    '/toy=one',
    'example.com/../x=one',
    'a/b=c d',
    '1a/b=c',
  ])('not %j', (name) => {
    expect(() => parseDeviceName(name)).toThrow(expect.objectContaining({ code: 'CDI_DEVICE_INVALID' }));
  });

  test('come from the field and from annotations, each once', () => {
    expect(
      requestedCdiDevices([{ name: 'a.b/c=1' }], {
        'cdi.k8s.io/x': 'a.b/c=2,a.b/c=1',
        'cdi.k8s.iox/y': 'no',
        other: 'x',
      }),
    ).toEqual(['a.b/c=1', 'a.b/c=2']);
  });
});

describe('a file', () => {
  test.each([
    ['a list', [], 'the file: expected an object'],
    ['no version', { ...SPEC, cdiVersion: 'x' }, 'cdiVersion'],
    ['no kind', { ...SPEC, kind: 'toy' }, 'kind'],
    ['a device twice', { ...SPEC, devices: [{ name: 'a' }, { name: 'a' }] }, 'devices[1].name'],
    ['a device without a name', { ...SPEC, devices: [{}] }, 'devices[0].name'],
    [
      'a node that is not absolute',
      { ...SPEC, containerEdits: { deviceNodes: [{ path: 'dev/x' }] } },
      'containerEdits.deviceNodes[0].path',
    ],
    [
      'permissions of its own',
      { ...SPEC, containerEdits: { deviceNodes: [{ path: '/dev/x', permissions: 'x' }] } },
      'permissions',
    ],
    ['a variable without a name', { ...SPEC, containerEdits: { env: ['=x'] } }, 'containerEdits.env[0]'],
    [
      'a group below 0',
      { ...SPEC, containerEdits: { additionalGids: [-1] } },
      'containerEdits.additionalGids[0]',
    ],
  ])('with %s is invalid, by field', (_, value, field) => {
    expect(() => parseCdiSpec('/etc/cdi/x.json', value)).toThrow(
      expect.objectContaining({ code: 'CDI_SPEC_INVALID', message: expect.stringContaining(field) }),
    );
  });
});

describe('in two directories', () => {
  let base: string;
  let directories: string[];
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'nodelet-cdi-'));
    directories = ['etc', 'run'].map((name) => join(base, name));
    for (const path of directories) mkdirSync(path);
    writeFileSync(join(base, 'etc', 'toy.json'), JSON.stringify(SPEC));
  });
  afterEach(() => rmSync(base, { recursive: true, force: true }));

  const edits = async (...names: string[]) => cdiEdits(names, await readCdiFiles(directories));

  test('the edits of a file come once, before those of its devices', async () => {
    const found = await edits('example.com/toy=one', 'example.com/toy=two');
    expect(found.flatMap(({ env }) => env)).toEqual(['ALL=1', 'ONE=1']);
    expect(found.flatMap(({ additionalGids }) => additionalGids)).toEqual([44]);
  });

  test('YAML is read, and the later directory wins', async () => {
    writeFileSync(
      join(base, 'run', 'toy.yaml'),
      'cdiVersion: "0.6.0"\nkind: example.com/toy\ndevices:\n- name: one\n  containerEdits:\n    env: [ONE=2]\n',
    );
    expect((await edits('example.com/toy=one')).flatMap(({ env }) => env)).toEqual(['ONE=2']);
    expect((await edits('example.com/toy=two')).flatMap(({ env }) => env)).toEqual(['ALL=1']);
  });

  test('a device that one directory has twice is nobody’s', async () => {
    writeFileSync(join(base, 'etc', 'other.json'), JSON.stringify(SPEC));
    await expect(edits('example.com/toy=one')).rejects.toThrow('is defined twice');
  });

  test('what is missing is named, and so is a file that cannot be read', async () => {
    writeFileSync(join(base, 'run', 'bad.yml'), 'kind: [');
    writeFileSync(join(base, 'run', 'ignored.txt'), 'kind: [');
    await expect(edits('example.com/toy=three', 'a.b/c=d')).rejects.toMatchObject({
      code: 'CDI_DEVICE_NOT_FOUND',
      message: expect.stringMatching(/"example.com\/toy=three", "a.b\/c=d".*bad\.yml/s),
    });
  });

  test('hooks are refused by name', async () => {
    await expect(edits('example.com/toy=hooked')).rejects.toMatchObject({
      code: 'CDI_EDIT_UNSUPPORTED',
      message: expect.stringContaining('hooks'),
    });
  });
});
