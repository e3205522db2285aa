export { cdiEdits, requestedCdiDevices } from './devices.ts';
export { CDI_DIRECTORIES, type CdiFiles, readCdiFiles } from './files.ts';
export { type CdiContainerEdits, type CdiDeviceNode, parseCdiSpec, parseDeviceName } from './spec.ts';
