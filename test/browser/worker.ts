/** What runs in a worker of the page under test. */
import { inPage } from './page.ts';

addEventListener('message', async ({ data }: MessageEvent<Parameters<typeof inPage.judge>>) => {
  postMessage(await inPage.judge(...data).catch((error: Error) => ({ error: error.message })));
});
