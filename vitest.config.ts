import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Those need a browser: `npm run test:browser`.
    exclude: ['test/browser/**'],
    setupFiles: ['test/support/fuzz-seed.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Tests of memory growth collect first.
    execArgv: ['--expose-gc'],
    // Two cores: a worker more only makes the software GPU's threads wait.
    maxWorkers: 2,
  },
});
