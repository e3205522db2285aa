/** Apart, so that it is loaded only where a device is asked for. */
export { parse } from 'yaml';
