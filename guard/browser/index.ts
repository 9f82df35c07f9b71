/** The guard in a page: `Guard.load` takes an address or a folder that the user picked; all else is as in Node.js. */

import '../../engine/browser/dispose-symbols.ts';

export { fetchedFolder, type OnDownload, pickedFolder } from '../../engine/browser/index.ts';
export type { Folder } from '../../engine/folder.ts';
export * from '../portable.ts';
export { Guard, type ModelPlace, type PageLoadOptions } from './guard.ts';
