import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { familiarName, formatReference, parseReference, storedName } from '../../../src/image/reference.ts';

const hex = 'a'.repeat(64);

describe('parseReference', () => {
  test.each([
    ['a bare name', 'busybox', 'docker.io/library/busybox:latest'],
    ['a name with a tag', 'busybox:1.36', 'docker.io/library/busybox:1.36'],
    ['a user repository', 'grafana/grafana', 'docker.io/grafana/grafana:latest'],
    ['Docker Hub by its own name', 'docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['Docker Hub by its old name', 'index.docker.io/library/busybox', 'docker.io/library/busybox:latest'],
    ['localhost', 'localhost/app', 'localhost/app:latest'],
    ['localhost with a port', 'localhost:5000/app:v1', 'localhost:5000/app:v1'],
    ['a name that looks like host:port without a path', 'localhost:5000', 'docker.io/library/localhost:5000'],
    ['an IPv4 host', '127.0.0.1:5000/a/b', '127.0.0.1:5000/a/b:latest'],
    ['an IPv6 host', '[::1]:5000/a', '[::1]:5000/a:latest'],
    ['a host in upper case', 'Registry/app', 'Registry/app:latest'],
    ['a digest', `busybox@sha256:${hex}`, `docker.io/library/busybox@sha256:${hex}`],
    ['a tag and a digest', `quay.io/a/b:c@sha256:${hex}`, `quay.io/a/b:c@sha256:${hex}`],
    ['a sha512 digest', `a@sha512:${'b'.repeat(128)}`, `docker.io/library/a@sha512:${'b'.repeat(128)}`],
    ['all separators', 'example.com/a.b_c__d---e/f', 'example.com/a.b_c__d---e/f:latest'],
    ['a tag of 128 characters', `a:${'t'.repeat(128)}`, `docker.io/library/a:${'t'.repeat(128)}`],
  ])('%s', (_name, text, full) => {
    expect(formatReference(parseReference(text))).toBe(full);
  });

  test.each([
    ['nothing', '', /it is empty/],
    ['an image ID', hex, /64 hex digits are an image ID/],
    ['upper case in the path', 'docker.io/Busybox', /"library\/Busybox" must be lower case/],
    ['a space', 'busy box', /characters that are not allowed/],
    ['two separators of one kind', 'a..b', /not allowed/],
    ['a leading separator', '-a', /not allowed/],
    ['a trailing slash', 'example.com/a/', /not allowed/],
    ['an empty tag', 'a:', /the tag ""/],
    ['a tag of 129 characters', `a:${'t'.repeat(129)}`, /the tag/],
    ['a tag that begins with a dash', 'a:-b', /the tag "-b"/],
    ['a port that is no number', 'example.com:x/a', /"example.com:x" is no host name/],
    ['a path that climbs', 'example.com/../a', /not allowed/],
    ['a digest that is too short', 'a@sha256:abc', /needs exactly 64 lower-case hex digits/],
    ['a digest with a path', 'a@sha256:../../etc/passwd', /the digest/],
    ['a digest of an unknown algorithm', `a@md5:${'a'.repeat(32)}`, /does not start with sha256:/],
    ['an algorithm out of the prototype', `a@constructor:${'a'.repeat(64)}`, /does not start with sha256:/],
    ['a name of 256 characters', `e.com/${'a'.repeat(250)}`, /256 characters, more than 255/],
    ['a megabyte', 'a'.repeat(1 << 20), /it has 1048576 characters/],
    ['only a host', 'example.com/', /the repository name is missing/],
  ])('refuses %s', (_name, text, reason) => {
    const error = fails(() => parseReference(text));
    expect(error.code).toBe('INVALID_REFERENCE');
    expect(error.message).toMatch(/^cannot parse image reference "/);
    expect(error.message).toMatch(reason);
  });

  test('takes 255 characters of name', () => {
    expect(parseReference(`e.com/${'a'.repeat(249)}`).name).toHaveLength(255);
  });

  const part = fc.stringMatching(/^[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}$/);
  const host = fc.constantFrom(
    'docker.io',
    'localhost',
    'a.example',
    'REG',
    '10.0.0.1:5000',
    '[fe80::1]:443',
  );
  test('what it writes it reads back as the same', () => {
    fc.assert(
      fc.property(
        host,
        fc.array(part, { minLength: 1, maxLength: 4 }),
        fc.option(fc.stringMatching(/^\w[\w.-]{0,20}$/), { nil: undefined }),
        fc.boolean(),
        (domain, parts, tag, digested) => {
          const text = `${domain}/${parts.join('/')}${tag === undefined ? '' : `:${tag}`}${digested ? `@sha256:${hex}` : ''}`;
          const reference = parseReference(text);
          expect(parseReference(formatReference(reference))).toEqual(reference);
          expect(parseReference(familiarName(storedName(reference))).name).toBe(reference.name);
        },
      ),
    );
  });

  test('anything else is refused with its own code, quickly', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 400 }), (text) => {
        try {
          expect(parseReference(text).name.length).toBeLessThanOrEqual(255);
        } catch (error) {
          expect((error as NodeletError).code).toBe('INVALID_REFERENCE');
        }
      }),
    );
  });
});

test.each([
  ['docker.io/library/busybox:latest', 'busybox:latest'],
  ['docker.io/grafana/grafana:1', 'grafana/grafana:1'],
  ['docker.io/library/a/b:1', 'library/a/b:1'],
  ['quay.io/a/b:1', 'quay.io/a/b:1'],
])('familiarName: %s is %s', (full, short) => {
  expect(familiarName(full)).toBe(short);
});

function fails(work: () => unknown): NodeletError {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(NodeletError);
    return error as NodeletError;
  }
  throw new Error('did not fail');
}
