export { startAgent } from './agent/index.ts';
