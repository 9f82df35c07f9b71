import { CalibrationError, OptionError } from '../errors.ts';
import { type Labelled, type ThresholdRule, thresholdFor } from '../evaluation/metrics.ts';

/**
 * Reads a rule for thresholds: `fpr=0.01`, `recall=0.95` or `f1`.
 * @throws OptionError `option-invalid`
 */
export function parseRule(text: string): ThresholdRule {
  if (text === 'f1') return 'f1';
  const [, kind, digits] = text.match(/^(fpr|recall)=(\S+)$/) ?? [];
  const share = Number(digits);
  if (kind === 'fpr' && share >= 0 && share < 1) return { fpr: share };
  if (kind === 'recall' && share > 0 && share <= 1) return { recall: share };
  throw new OptionError(
    'option-invalid',
    `A threshold is chosen by fpr=X (0 to 1), recall=X (0 to 1) or f1, not by ${JSON.stringify(text)}.`,
  );
}

export function describeRule(rule: ThresholdRule): string {
  if (rule === 'f1') return rule;
  return 'fpr' in rule ? `fpr=${rule.fpr}` : `recall=${rule.recall}`;
}

/**
 * The threshold that a rule asks for.
 *
 * @param what the samples, as the error message calls them
 * @throws CalibrationError `threshold-unreachable`
 */
export function chooseThreshold(samples: readonly Labelled[], rule: ThresholdRule, what: string): number {
  const threshold = thresholdFor(samples, rule);
  if (threshold !== null) return threshold;
  throw new CalibrationError(
    'threshold-unreachable',
    `No threshold gives ${describeRule(rule)} on ${what}: safe ones score highest, or samples of either label are ` +
      'missing. Give more samples, or ask for less.',
  );
}
