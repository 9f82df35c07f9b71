import type { ByteFile } from '../safetensors/source.ts';

/** The bytes of a blob, a picked file or what was downloaded: the browser may keep them on its disk. */
export const blobFile = (name: string, blob: Blob): ByteFile => ({
  name,
  size: blob.size,
  read: async (target, position) => {
    const bytes = await blob.slice(position, position + target.length).arrayBuffer();
    target.set(new Uint8Array(bytes));
    return bytes.byteLength;
  },
  close: async () => {},
});
