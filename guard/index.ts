/** The guard: a policy, a role and a conversation in; calibrated safe/unsafe scores out. */
export { type DiskPlace, Guard } from './node/guard.ts';
export * from './portable.ts';
