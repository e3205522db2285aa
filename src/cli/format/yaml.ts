/** A file of its own, so that it is loaded when needed: the bundle gives names of a CommonJS package to static imports only. */
export { stringify } from 'yaml';
