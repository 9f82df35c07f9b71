/** What the engine needs of a page: model folders behind a URL or picked by its user, `navigator.gpu`, and web workers. */

import './dispose-symbols.ts';

export type { DeviceChoice, DeviceDecision, OpenDeviceOptions } from '../device-choice.ts';
export { type FetchedFolderOptions, fetchedFolder, type OnDownload } from './fetched-folder.ts';
export { findWebGpuAdapter, openCpu, openDevice, openWebGpu } from './open-device.ts';
export { pickedFolder } from './picked-folder.ts';
