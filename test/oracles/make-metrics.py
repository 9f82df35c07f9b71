"""Writes what scikit-learn makes of random, tied, degenerate and partly unlabelled scores: the oracle of test/evaluation-metrics.test.ts.

Run from the repository's root with a Python that has scikit-learn (Debian: python3-sklearn):

    python3 test/oracles/make-metrics.py

It writes test/oracles/metrics.json: each case holds scores, labels (null is unknown) and, by scikit-learn's own names,
what its functions return on the samples of known label; null where a function refuses them. scikit-learn has no expected
calibration error: it is put together here from `calibration_curve`, with the counts of the same bins.
"""

import json
import math
import pathlib
import random
import warnings

import numpy
import sklearn
from sklearn import calibration, metrics

BINS = 15


def cases(rng):
    uniform = lambda n: [rng.random() for _ in range(n)]
    labels = lambda n, share=0.5: [int(rng.random() < share) for _ in range(n)]
    informed = lambda truth: [min(1.0, max(0.0, rng.gauss(0.3 + 0.4 * (label or 0), 0.2))) for label in truth]

    for n in (2, 3, 5, 10, 50, 200):
        truth = [0, 1] + labels(n - 2)
        yield f"random, {n}", uniform(n), truth
        yield f"informed, {n}", informed(truth), truth
    for n, levels in ((10, 2), (30, 3), (100, 5), (100, 11)):
        yield f"tied, {n} of {levels} levels", [rng.randrange(levels) / (levels - 1) for _ in range(n)], [0, 1] + labels(n - 2)
    yield "tied on the edges of bins", [i / 15 for i in range(16)] * 4, labels(64)
    yield "all tied", [0.5] * 12, [0, 1] + labels(10)
    yield "rare positives", uniform(300), [1, 1, 1] + [0] * 297
    yield "rare negatives", uniform(100), [0] + [1] * 99
    yield "perfect", [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]
    yield "inverted", [0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]
    yield "sure and right", [0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1]
    yield "sure and wrong", [0.0, 1.0, 1.0, 0.0], [1, 0, 1, 0]
    yield "nearly sure", [5e-324, 1e-300, 1e-17, 1 - 2**-53], [0, 1, 0, 1]
    yield "differing in the last bit", [0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2], [0, 1, 1, 0]
    yield "all positive", uniform(20), [1] * 20
    yield "all negative", uniform(20), [0] * 20
    yield "one positive", [0.7], [1]
    yield "one negative", [0.7], [0]
    truth = [label if rng.random() < 0.6 else None for label in labels(80)]
    yield "partly unknown", informed(truth), truth
    yield "nothing known", uniform(4), [None] * 4


def attempt(function):
    """What a function returns, without its warnings; null where it refuses or has no number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = function()
    except ValueError:
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def expected_calibration_error(truth, scores):
    if len(truth) == 0:
        return None
    share, mean = calibration.calibration_curve(truth, scores, n_bins=BINS)
    bins = numpy.searchsorted(numpy.linspace(0.0, 1.0, BINS + 1)[1:-1], scores)
    counts = numpy.bincount(bins, minlength=BINS)
    return float(numpy.sum(counts[counts > 0] / len(truth) * numpy.abs(share - mean)))


def curve(truth, scores):
    if len(truth) == 0:
        return []
    precision, recall, thresholds = attempt(lambda: metrics.precision_recall_curve(truth, scores))
    return [[float(t), float(p), float(r)] for t, p, r in zip(thresholds[::-1], precision[-2::-1], recall[-2::-1])]


def roc(truth, scores):
    if len(set(truth)) < 2:
        return []
    false_rate, true_rate, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    return [[float(t), float(f), float(r)] for t, f, r in zip(thresholds[1:], false_rate[1:], true_rate[1:])]


def confusion(truth, scores, threshold):
    flagged = [int(score >= threshold) for score in scores]
    (tn, fp), (fn, tp) = metrics.confusion_matrix(truth, flagged, labels=[0, 1]).tolist() if truth else ((0, 0), (0, 0))
    score = lambda name: attempt(lambda: float(getattr(metrics, name)(truth, flagged))) if truth else 0.0
    return {
        "threshold": threshold,
        "counts": [tp, fp, tn, fn],
        "precision_score": score("precision_score"),
        "recall_score": score("recall_score"),
        "f1_score": score("f1_score"),
        "accuracy_score": score("accuracy_score") if truth else None,
    }


def expectation(scores, labels):
    known = [(score, label) for score, label in zip(scores, labels) if label is not None]
    scores = [score for score, _ in known]
    truth = [label for _, label in known]
    number = lambda function: attempt(lambda: float(function())) if truth else None
    return {
        "average_precision_score": number(lambda: metrics.average_precision_score(truth, scores)),
        "roc_auc_score": number(lambda: metrics.roc_auc_score(truth, scores)),
        "brier_score_loss": number(lambda: metrics.brier_score_loss(truth, scores, pos_label=1)),
        "log_loss": number(lambda: metrics.log_loss(truth, scores, labels=[0, 1])),
        "expected_calibration_error": expected_calibration_error(truth, scores),
        "precision_recall_curve": curve(truth, scores),
        "roc_curve": roc(truth, scores),
        "confusion": [confusion(truth, scores, threshold) for threshold in (0.0, 0.3, 0.5, 1.0)],
    }


def main():
    rng = random.Random(0)
    lines = [
        json.dumps({"name": name, "scores": scores, "labels": labels, "expected": expectation(scores, labels)}, allow_nan=False)
        for name, scores, labels in cases(rng)
    ]
    pathlib.Path("test/oracles/metrics.json").write_text(
        "{\n"
        f'  "by": "scikit-learn {sklearn.__version__}",\n'
        '  "cases": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"
    )


main()
