// Reads a proto3 file as far as the CRI's api.proto goes: enums, messages without nesting, services, oneofs, maps.

/** proto3's scalars. */
export const SCALARS = new Set([
  'string',
  'bool',
  'bytes',
  'int32',
  'int64',
  'uint32',
  'uint64',
  'double',
  'float',
]);

const camel = (name) => name.replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase());

function tokens(text) {
  const plain = text.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/\/\/[^\n]*/g, ' ');
  return plain.match(/"[^"]*"|[A-Za-z_][\w.]*|\d+|[{}()<>=;,[\]]/g);
}

/**
 * `{ package, enums: [{ name, values: [[key, number]] }], messages: [{ name, fields: [{ name, number, type, repeated, map }] }],
 * services: [{ name, calls: [{ call, request, response, stream }] }] }`; field names in camel case.
 */
export function parseProto(text) {
  const words = tokens(text);
  let at = 0;
  const next = () => words[at++];
  const expect = (word) => {
    const got = next();
    if (got !== word) throw new Error(`expected ${word}, found ${got} (token ${at})`);
  };
  const parsed = { package: '', enums: [], messages: [], services: [] };

  const skipStatement = () => {
    while (next() !== ';');
  };

  const parseEnum = () => {
    const name = next();
    expect('{');
    const values = [];
    while (words[at] !== '}') {
      const key = next();
      expect('=');
      values.push([key, Number(next())]);
      expect(';');
    }
    next();
    parsed.enums.push({ name, values });
  };

  const parseField = (fields) => {
    let word = next();
    let repeated = false;
    let map;
    if (word === 'reserved' || word === 'option') return skipStatement();
    if (word === 'optional') word = next();
    if (word === 'repeated') {
      repeated = true;
      word = next();
    }
    if (word === 'map') {
      expect('<');
      const key = next();
      expect(',');
      map = [key, next()];
      expect('>');
    }
    const name = next();
    expect('=');
    const number = Number(next());
    if (words[at] === '[') while (next() !== ']');
    expect(';');
    fields.push({ name: camel(name), number, type: word, repeated, map });
    return undefined;
  };

  const parseMessage = () => {
    const name = next();
    expect('{');
    const fields = [];
    while (words[at] !== '}') {
      if (words[at] === 'enum') {
        next();
        parseEnum();
      } else if (words[at] === 'oneof') {
        next();
        next();
        expect('{');
        while (words[at] !== '}') parseField(fields);
        next();
      } else parseField(fields);
    }
    next();
    parsed.messages.push({ name, fields });
  };

  const parseService = () => {
    const name = next();
    expect('{');
    const calls = [];
    while (words[at] !== '}') {
      expect('rpc');
      const call = next();
      expect('(');
      const request = next();
      expect(')');
      expect('returns');
      expect('(');
      let response = next();
      const stream = response === 'stream';
      if (stream) response = next();
      expect(')');
      expect('{');
      expect('}');
      calls.push({ call, request, response, stream });
    }
    next();
    parsed.services.push({ name, calls });
  };

  while (at < words.length) {
    const word = next();
    if (word === 'package') {
      parsed.package = next();
      expect(';');
    } else if (word === 'syntax' || word === 'option' || word === 'import') skipStatement();
    else if (word === 'enum') parseEnum();
    else if (word === 'message') parseMessage();
    else if (word === 'service') parseService();
    else throw new Error(`unexpected ${word}`);
  }
  return parsed;
}

/** RunPodSandbox → runPodSandbox */
export const methodName = (call) => call[0].toLowerCase() + call.slice(1);
