export { attachDeviceProgram, attachedDevicePrograms, loadDeviceProgram } from './load.ts';
export { deviceProgram } from './program.ts';
export {
  allDeviceRules,
  checkDeviceRules,
  type DeviceRule,
  defaultDeviceRules,
  deviceRulesV1,
} from './rules.ts';
