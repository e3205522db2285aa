/** Whom to trust and as whom to appear at one registry: authorities, client certificates, or no check at all. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { hasCode, messageOf, NodeletError } from '../../base/index.ts';
import { quote } from '../digest.ts';

export interface TlsProfile {
  /** Equal where everything else is: the key of connections that may be shared. */
  readonly id: string;
  /** PEM, beside the system's. */
  readonly authorities: readonly string[];
  /** PEM. */
  readonly clients: readonly { readonly certificate: string; readonly key: string }[];
  readonly skipVerify: boolean;
}

export function tlsProfile(parts: Partial<Omit<TlsProfile, 'id'>>): TlsProfile {
  const { authorities = [], clients = [], skipVerify = false } = parts;
  const all = { authorities, clients, skipVerify };
  return { ...all, id: createHash('sha256').update(JSON.stringify(all)).digest('hex') };
}

/** What a profile says about *other* hosts of the same registry (its token server): whom to trust, and no more. */
export function authoritiesOnly(profile: TlsProfile | undefined): TlsProfile | undefined {
  return profile === undefined || profile.authorities.length === 0
    ? undefined
    : tlsProfile({ authorities: profile.authorities });
}

/** Throws REGISTRY_CONFIG_INVALID where a certificate or key is none. */
export function secureContext(profile: TlsProfile | undefined): SecureContext {
  try {
    return createSecureContext({
      ca: [...trustedCertificates(), ...(profile?.authorities ?? [])],
      ...(profile === undefined || profile.clients.length === 0
        ? {}
        : {
            cert: profile.clients.map(({ certificate }) => certificate),
            key: profile.clients.map(({ key }) => key),
          }),
    });
  } catch (error) {
    throw new NodeletError(
      'REGISTRY_CONFIG_INVALID',
      `cannot use the certificates that are configured for a registry: ${messageOf(error)}`,
      { cause: error, hint: 'certificates and keys are PEM files, and a key belongs to its certificate' },
    );
  }
}

/** Node's own roots, the distribution's, and $NODE_EXTRA_CA_CERTS (which `ca` would otherwise switch off). */
function trustedCertificates(): readonly string[] {
  const bundles = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt'];
  const files = [bundles.find((path) => existsSync(path)), process.env.NODE_EXTRA_CA_CERTS];
  const extra = files.filter((path) => path !== undefined && path !== '' && existsSync(path));
  return [...rootCertificates, ...extra.map((path) => readFileSync(path ?? '', 'utf8'))];
}

/** Largest certificate or key file that is read. */
const maxPem = 4 * 1024 * 1024;

/** Reads a PEM file that `where` names. Throws REGISTRY_CONFIG_INVALID. */
export function readPem(path: string, where: string, kind: 'CERTIFICATE' | 'PRIVATE KEY'): string {
  const fail = (reason: string, cause?: unknown): NodeletError =>
    new NodeletError('REGISTRY_CONFIG_INVALID', `cannot use ${where}: ${quote(path)} ${reason}`, { cause });
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fail('cannot be read', error);
  }
  if (text.length > maxPem) throw fail(`has more than ${maxPem} bytes`);
  if (!new RegExp(`-----BEGIN [A-Z ]*${kind}-----`).test(text)) {
    throw fail(`holds no ${kind === 'CERTIFICATE' ? 'certificate' : 'private key'} in PEM`);
  }
  return text;
}

/**
 * Docker's notation of the same, one directory for each registry: `*.crt` are authorities, `NAME.cert` with `NAME.key`
 * a client's. Undefined where the directory is absent or holds none. Throws REGISTRY_CONFIG_INVALID.
 */
export function readCertDirectory(folder: string): TlsProfile | undefined {
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw new NodeletError('REGISTRY_CONFIG_INVALID', `cannot read the directory ${quote(folder)}`, {
      cause: error,
    });
  }
  const where = `the certificates in ${quote(folder)}`;
  const authorities = names
    .filter((name) => name.endsWith('.crt'))
    .map((name) => readPem(join(folder, name), where, 'CERTIFICATE'));
  const clients = names
    .filter((name) => name.endsWith('.cert'))
    .map((name) => ({
      certificate: readPem(join(folder, name), where, 'CERTIFICATE'),
      key: readPem(join(folder, name.replace(/\.cert$/, '.key')), where, 'PRIVATE KEY'),
    }));
  return authorities.length + clients.length === 0 ? undefined : tlsProfile({ authorities, clients });
}
