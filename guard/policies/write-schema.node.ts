/** `npm run schema`: writes policy.schema.json anew after a change of guard/policy.ts. */
import { writeFileSync } from 'node:fs';
import { policyJsonSchema } from './schema.ts';

writeFileSync(new URL('policy.schema.json', import.meta.url), `${JSON.stringify(policyJsonSchema(), undefined, 2)}\n`);
