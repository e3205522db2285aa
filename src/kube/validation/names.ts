/**
 * The grammars that names and other short strings of the API follow. Each check returns the reasons why a value is
 * refused, in the API server's words; an empty list means that it is good.
 */

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const SUBDOMAIN = `${LABEL}(\\.${LABEL})*`;
const LOOSE_LABEL = '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?';
const LOOSE_SUBDOMAIN = `${LOOSE_LABEL}(\\.${LOOSE_LABEL})*`;
const QUALIFIED = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]';
const LABEL_VALUE = `(${QUALIFIED})?`;
const CONFIG_KEY = '[-._a-zA-Z0-9]+';
const HEADER = '[-A-Za-z0-9]+';
const SYSCTL_SEGMENT = '[a-z0-9]([-_a-z0-9]*[a-z0-9])?';

const whole = (pattern: string): RegExp => new RegExp(`^${pattern}$`);

const patterns = {
  label: whole(LABEL),
  subdomain: whole(SUBDOMAIN),
  looseSubdomain: whole(LOOSE_SUBDOMAIN),
  qualified: whole(QUALIFIED),
  labelValue: whole(LABEL_VALUE),
  configKey: whole(CONFIG_KEY),
  header: whole(HEADER),
};

export const SYSCTL_PATTERN = whole(`(${SYSCTL_SEGMENT}[\\./])*${SYSCTL_SEGMENT}`);

const MAX_LABEL = 63;
const MAX_SUBDOMAIN = 253;

function bytes(text: string): number {
  return Buffer.byteLength(text);
}

function tooLong(max: number, unit: 'bytes' | 'characters' = 'characters'): string {
  return `must be no more than ${max} ${unit}`;
}

function mismatch(rule: string, pattern: string, ...examples: string[]): string {
  const shown = examples.map((example) => `'${example}', `).join(' or ');
  return `${rule} (e.g. ${shown}regex used for validation is '${pattern}')`;
}

/** RFC 1123 label: container, volume and namespace names, hostnames. */
export function dnsLabel(value: string): string[] {
  const reasons: string[] = [];
  if (bytes(value) > MAX_LABEL) reasons.push(tooLong(MAX_LABEL));
  if (!patterns.label.test(value)) {
    reasons.push(
      patterns.subdomain.test(value)
        ? 'must not contain dots'
        : mismatch(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL,
            'my-name',
            '123-abc',
          ),
    );
  }
  return reasons;
}

/** RFC 1123 subdomain: names of pods, config maps and most other objects. */
export function dnsSubdomain(value: string): string[] {
  const reasons: string[] = [];
  if (bytes(value) > MAX_SUBDOMAIN) reasons.push(tooLong(MAX_SUBDOMAIN));
  if (!patterns.subdomain.test(value)) {
    reasons.push(
      mismatch(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        SUBDOMAIN,
        'example.com',
      ),
    );
  }
  return reasons;
}

/** A DNS search path: a subdomain that may hold underscores. */
export function dnsSearchPath(value: string): string[] {
  const reasons: string[] = [];
  if (bytes(value) > MAX_SUBDOMAIN) reasons.push(tooLong(MAX_SUBDOMAIN));
  if (!patterns.looseSubdomain.test(value)) {
    reasons.push(
      mismatch(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
        LOOSE_SUBDOMAIN,
        'example.com',
      ),
    );
  }
  return reasons;
}

/** A label's or annotation's key: a name with an optional DNS prefix, `example.com/MyName`. */
export function qualifiedName(value: string): string[] {
  const rule = mismatch(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    QUALIFIED,
    'MyName',
    'my.name',
    '123-abc',
  );
  const parts = value.split('/');
  if (parts.length > 2) {
    return [
      `a valid label key ${rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const reasons: string[] = [];
  const name = parts.at(-1) ?? '';
  if (parts.length === 2) {
    const prefix = parts[0] ?? '';
    if (prefix === '') reasons.push('prefix part must be non-empty');
    else reasons.push(...dnsSubdomain(prefix).map((reason) => `prefix part ${reason}`));
  }
  if (name === '') reasons.push('name part must be non-empty');
  else if (bytes(name) > MAX_LABEL) reasons.push(`name part ${tooLong(MAX_LABEL, 'bytes')}`);
  if (!patterns.qualified.test(name)) reasons.push(`name part ${rule}`);
  return reasons;
}

export function labelValue(value: string): string[] {
  const reasons: string[] = [];
  if (bytes(value) > MAX_LABEL) reasons.push(tooLong(MAX_LABEL, 'bytes'));
  if (!patterns.labelValue.test(value)) {
    reasons.push(
      mismatch(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        LABEL_VALUE,
        'MyValue',
        'my_value',
        '12345',
      ),
    );
  }
  return reasons;
}

/** A key of a ConfigMap or Secret: becomes a file name. */
export function configKey(value: string): string[] {
  const reasons: string[] = [];
  if (bytes(value) > MAX_SUBDOMAIN) reasons.push(tooLong(MAX_SUBDOMAIN));
  if (!patterns.configKey.test(value)) {
    reasons.push(
      mismatch(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        CONFIG_KEY,
        'key.name',
        'KEY_NAME',
        'key-name',
      ),
    );
  }
  if (value === '.') reasons.push("must not be '.'");
  else if (value === '..') reasons.push("must not be '..'");
  else if (value.startsWith('..')) reasons.push("must not start with '..'");
  return reasons;
}

export function envName(value: string): string[] {
  // printable ASCII without '='
  return /^[ -<>-~]+$/.test(value)
    ? []
    : ["a valid environment variable name must consist only of printable ASCII characters other than '='"];
}

/** A port's name, RFC 6335 in lower case. */
export function portName(value: string): string[] {
  const reasons: string[] = [];
  if (bytes(value) > 15) reasons.push(tooLong(15));
  if (!/^[-a-z0-9]+$/.test(value)) {
    reasons.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  }
  if (!/[a-z]/.test(value)) reasons.push('must contain at least one letter (a-z)');
  if (value.includes('--')) reasons.push('must not contain consecutive hyphens');
  if (value.startsWith('-') || value.endsWith('-')) reasons.push('must not begin or end with a hyphen');
  return reasons;
}

export function headerName(value: string): string[] {
  return patterns.header.test(value)
    ? []
    : [
        mismatch(
          "a valid HTTP header must consist of alphanumeric characters or '-'",
          HEADER,
          'X-Header-Name',
        ),
      ];
}

export function inRange(value: number, low: number, high: number): string[] {
  return value >= low && value <= high ? [] : [`must be between ${low} and ${high}, inclusive`];
}

export function portNumber(value: number): string[] {
  return inRange(value, 1, 65_535);
}

/** A user or group id. */
export function unixId(value: number): string[] {
  return inRange(value, 0, 2 ** 31 - 1);
}
