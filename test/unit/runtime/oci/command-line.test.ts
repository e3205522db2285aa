import { describe, expect, test } from 'vitest';
import { parseArguments } from '../../../../src/runtime/oci/arguments.ts';
import { cgroupPath } from '../../../../src/runtime/oci/cgroup.ts';
import { GLOBAL_OPTIONS, VERBS } from '../../../../src/runtime/oci/program.ts';
import { checkId } from '../../../../src/runtime/oci/state.ts';
import { checkStatus } from '../../../../src/runtime/oci/transitions.ts';

const optionsOf = (verb: string) => VERBS.find(({ name }) => name === verb)?.options ?? [];

describe('options', () => {
  test('one dash or two, a value beside or behind "=", the last one counts', () => {
    const args = parseArguments(GLOBAL_OPTIONS, ['-root', '/a', '--root=/b', '--debug', 'list', '-q']);
    expect(args.text('root')).toBe('/b');
    expect(args.has('debug')).toBe(true);
    expect(args.operands).toEqual(['list', '-q']);
  });

  test('what follows the first operand belongs to the program', () => {
    const args = parseArguments(optionsOf('exec'), [
      '-e',
      'A=1',
      '--env',
      'B=2=3',
      'id',
      'ls',
      '--env',
      '-t',
    ]);
    expect(args.list('env')).toEqual(['A=1', 'B=2=3']);
    expect(args.has('tty')).toBe(false);
    expect(args.operands).toEqual(['id', 'ls', '--env', '-t']);
  });

  test('"--" ends them, and "-" is an operand', () => {
    expect(parseArguments(optionsOf('kill'), ['--', '--all']).operands).toEqual(['--all']);
    expect(parseArguments(optionsOf('kill'), ['-', 'x']).operands).toEqual(['-', 'x']);
  });

  test('a flag takes a truth value as Go writes it', () => {
    expect(parseArguments(optionsOf('exec'), ['--tty=false']).has('tty')).toBe(false);
    expect(parseArguments(optionsOf('exec'), ['--tty', '--tty=0']).has('tty')).toBe(false);
    expect(parseArguments(optionsOf('exec'), ['--tty=T']).has('tty')).toBe(true);
    expect(() => parseArguments(optionsOf('exec'), ['--tty=yes'])).toThrow('--tty: expected true or false');
  });

  test('unknown ones, missing values and wrong numbers are named', () => {
    expect(() => parseArguments(optionsOf('kill'), ['--al=1'])).toThrow('unknown option "--al"');
    expect(() => parseArguments(optionsOf('create'), ['--bundle'])).toThrow('--bundle needs a value');
    const args = parseArguments(optionsOf('create'), ['--preserve-fds', '1e3']);
    expect(() => args.integer('preserve-fds', 0)).toThrow('found "1e3"');
  });
});

describe('the path of a cgroup', () => {
  test.each([
    [undefined, '/nodelet-oci-id'],
    ['/a/b', '/a/b'],
    ['a//b/', '/a/b'],
  ])('%j is %s', (asked, path) => {
    expect(cgroupPath(asked, 'id')).toBe(path);
  });

  test.each([
    ['system.slice:oci:x', 'OCI_UNSUPPORTED'],
    ['/a/../../b/c', 'CGROUP_PATH_INVALID'],
    ['/', 'CGROUP_PATH_INVALID'],
    ['/a/cgroup.procs', 'CGROUP_PATH_INVALID'],
  ])('%j is refused', (asked, code) => {
    expect(() => cgroupPath(asked, 'id')).toThrow(expect.objectContaining({ code }) as Error);
  });
});

test.each(['', '.', '..', 'a/b', 'a b', 'a\n', 'é', 'x'.repeat(256)])('%j is no id', (id) => {
  expect(() => checkId(id)).toThrow(expect.objectContaining({ code: 'OCI_INVALID_ID' }) as Error);
});

test.each(['a', 'A_0+.-', '-', 'x'.repeat(255)])('%j is an id', (id) => {
  expect(checkId(id)).toBe(id);
});

describe('which verb is for which state', () => {
  test.each([
    ['start', 'created'],
    ['kill', 'paused'],
    ['delete', 'stopped'],
    ['delete', 'created'],
    ['resume', 'paused'],
  ] as const)('%s of one that is %s', (verb, status) => {
    expect(() => checkStatus(verb, 'c', status)).not.toThrow();
  });

  test.each([
    ['start', 'running', 'already running'],
    ['start', 'stopped', 'a container that is stopped'],
    ['kill', 'stopped', 'container not running'],
    ['delete', 'running', 'the container is running'],
    ['exec', 'paused', 'the container is paused'],
    ['resume', 'running', 'the container is running'],
  ] as const)('not %s of one that is %s', (verb, status, text) => {
    expect(() => checkStatus(verb, 'c', status)).toThrow(text);
  });
});
