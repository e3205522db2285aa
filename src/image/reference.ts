/**
 * Image references: the grammar and the normalisation of docker/distribution, so that a name means here what it
 * means to docker and containerd. Pure.
 */
import { NodeletError } from '../base/index.ts';
import { parseDigest, quote } from './digest.ts';

export interface Reference {
  /** `host[:port]`; `docker.io` where the text named none. */
  readonly domain: string;
  /** Repository path, `library/busybox`. */
  readonly path: string;
  /** `domain/path`. */
  readonly name: string;
  /** `latest` where the text had neither tag nor digest. */
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/** Longest `domain/path` (distribution's NameTotalLengthMax). */
const maxName = 255;

const component = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domainPattern = new RegExp(`^(?:${component}(?:\\.${component})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const pathPattern = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;

/**
 * Parses and normalises `[host[:port]/]path[:tag][@digest]`: `busybox` is `docker.io/library/busybox:latest`.
 * With a tag and a digest both are kept; the digest decides what is pulled. Throws INVALID_REFERENCE.
 */
export function parseReference(text: string): Reference {
  const fail = (reason: string): NodeletError =>
    new NodeletError('INVALID_REFERENCE', `cannot parse image reference ${quote(text)}: ${reason}`, {
      hint: 'an image is named [HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]',
    });
  if (text === '') throw fail('it is empty');
  if (/^[a-f0-9]{64}$/.test(text)) throw fail('64 hex digits are an image ID, not a name');
  // Nothing valid is longer: name, ":" and tag, "@" and digest. Checked first so that no pattern sees a megabyte.
  if (text.length > maxName + 1 + 128 + 1 + 256) throw fail(`it has ${text.length} characters`);

  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    try {
      parseDigest(digest);
    } catch (error) {
      throw fail(`the digest ${quote(digest)} is none (${error instanceof Error ? error.message : ''})`);
    }
  }
  const { domain, remote } = splitDomain(rest);
  const colon = remote.indexOf(':');
  const path = colon < 0 ? remote : remote.slice(0, colon);
  const tag = colon < 0 ? undefined : remote.slice(colon + 1);

  if (path === '' || path === 'library/') throw fail('the repository name is missing');
  if (path !== path.toLowerCase()) throw fail(`the repository name ${quote(path)} must be lower case`);
  if (!pathPattern.test(path))
    throw fail(`the repository name ${quote(path)} has characters that are not allowed`);
  if (!domainPattern.test(domain)) throw fail(`${quote(domain)} is no host name`);
  if (tag !== undefined && !tagPattern.test(tag)) {
    throw fail(
      `the tag ${quote(tag)} must be 1 to 128 letters, digits, "_", "." or "-", not starting with "." or "-"`,
    );
  }
  const name = `${domain}/${path}`;
  if (name.length > maxName) throw fail(`the name has ${name.length} characters, more than ${maxName}`);
  return { domain, path, name, digest, tag: tag ?? (digest === undefined ? 'latest' : undefined) };
}

/** Distribution's rule: the first part is a host where it is "localhost", has "." or ":", or an upper-case letter. */
function splitDomain(text: string): { domain: string; remote: string } {
  const slash = text.indexOf('/');
  if (slash < 0) return { domain: 'docker.io', remote: `library/${text}` };
  const first = text.slice(0, slash);
  const rest = text.slice(slash + 1);
  if (first === 'index.docker.io' || first === 'docker.io') {
    return { domain: 'docker.io', remote: rest.includes('/') ? rest : `library/${rest}` };
  }
  if (first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase()) {
    return { domain: first, remote: rest };
  }
  return { domain: 'docker.io', remote: text };
}

/** The full form: `domain/path[:tag][@digest]`. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${reference.name}${tag}${digest}`;
}

/** The key under which an image is stored: with a digest the tag means nothing (distribution's ParseDockerRef). */
export function storedName(reference: Reference): string {
  return reference.digest === undefined
    ? formatReference(reference)
    : `${reference.name}@${reference.digest}`;
}

/** The short form that docker shows: `busybox:latest` for `docker.io/library/busybox:latest`. */
export function familiarName(text: string): string {
  if (!text.startsWith('docker.io/')) return text;
  const short = text.slice('docker.io/'.length);
  const [first = '', second] = short.split('/', 3);
  if (first === 'library' && second !== undefined && !/^library\/[^/:@]*\//.test(short))
    return short.slice('library/'.length);
  // docker.io/a.b/c: without its host the first part would be taken for one
  return /[.:]/.test(first) || first === 'localhost' ? text : short;
}
