// A web server that says who and where it is.
import { createServer } from 'node:http';
import { hostname } from 'node:os';

const server = createServer((request, response) => {
  const from = request.socket.remoteAddress?.replace('::ffff:', '') ?? '';
  console.log(`${request.method} ${request.url} from ${from}`);
  response.setHeader('content-type', 'text/plain');
  response.end(
    `Hello from pod ${hostname()}: I am PID ${process.pid}, uid ${process.getuid()}; you are ${from}\n`,
  );
});
server.listen(8080, '::', () => console.log('listening on port 8080'));

// PID 1 gets no default for signals: without this only SIGKILL would end it.
process.on('SIGTERM', () => {
  console.log('asked to end');
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
