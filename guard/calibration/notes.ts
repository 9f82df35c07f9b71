import { roles } from '../messages.ts';
import type { Calibration } from './calibration.ts';
import type { LeftOut } from './fit.ts';
import { noteOn } from './methods.ts';

/** What a reader must know of a fit, as lines: what its samples did not decide, and the categories that it left out. */
export function fitNotes({ roles: fitted }: Pick<Calibration, 'roles'>, leftOut: readonly LeftOut[]): string[] {
  return roles.flatMap((role) => {
    const own = fitted[role];
    if (own === undefined) return [];
    const parts = [['whole policy', own.overall] as const, ...Object.entries(own.categories)];
    const undecided = parts.flatMap(([name, { map }]) => {
      const note = noteOn(map);
      return note === undefined ? [] : [`Of role ${role}, ${name}: ${note}`];
    });
    const missing = leftOut.filter((category) => category.role === role);
    const reasons = [...new Set(missing.map(({ reason }) => reason))];
    const codesOf = (wanted: string) => missing.flatMap(({ code, reason }) => (reason === wanted ? [code] : []));
    return [...undecided, ...reasons.map((one) => `Of role ${role}, left out: ${codesOf(one).join(', ')}. ${one}`)];
  });
}
