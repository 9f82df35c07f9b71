"""Writes what scikit-learn fits to scores and labels: the oracle of test/calibration-methods.test.ts.

Run from the repository's root with a Python that has scikit-learn (Debian: python3-sklearn):

    python3 test/oracles/make-calibration.py

It writes test/oracles/calibration.json. All fits are on the log-odds of the scores. Temperature scaling is a logistic
regression without intercept, of which 1 / T is the coefficient; Platt scaling one with intercept against Platt's
targets, each sample standing for a positive and a negative one with the target's weights. Isotonic regression is given
by its values at the scores `at`.
"""

import json
import pathlib
import random

import numpy
import sklearn
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression


def cases(rng):
    sigmoid = lambda x: 1 / (1 + numpy.exp(-x))

    def drawn(count, slope, intercept, spread, digits=None):
        odds = [rng.gauss(0, spread) for _ in range(count)]
        labels = [int(rng.random() < sigmoid(slope * x + intercept)) for x in odds]
        scores = [float(sigmoid(x)) for x in odds]
        return [round(score, digits) if digits else score for score in scores], labels

    yield "overconfident", *drawn(400, 0.4, 0.0, 3.0)
    yield "underconfident", *drawn(400, 2.5, 0.0, 0.7)
    yield "shifted", *drawn(400, 0.8, -1.5, 2.0)
    yield "few", *drawn(12, 0.5, 0.3, 2.0)
    yield "tied", *drawn(200, 0.7, 0.2, 1.5, digits=1)
    yield "rare positives", *drawn(600, 0.9, -4.0, 2.0)
    yield "far out", *drawn(300, 0.3, 0.0, 8.0)
    yield "separable but for one", [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9, 0.05], [0, 0, 1, 0, 1, 1, 1, 0]


def regression(x, weights, intercept):
    """Coefficient and intercept against targets from 0 to 1."""
    model = LogisticRegression(penalty=None, solver="newton-cg", fit_intercept=intercept, tol=1e-12, max_iter=1000)
    model.fit(
        numpy.concatenate([x, x])[:, None],
        [1] * len(x) + [0] * len(x),
        sample_weight=numpy.concatenate([weights, 1 - weights]),
    )
    return float(model.coef_[0, 0]), float(numpy.ravel(model.intercept_)[0])


def expectation(scores, labels, at):
    inside = lambda p: numpy.clip(p, 2.0**-53, 1 - 2.0**-53)
    odds = lambda p: numpy.log(inside(p)) - numpy.log1p(-inside(p))
    x, y = odds(numpy.array(scores)), numpy.array(labels)
    positives, negatives = int(y.sum()), int((1 - y).sum())
    inverse, _ = regression(x, y.astype(float), False)
    slope, intercept = regression(x, numpy.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2)), True)
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    return {
        "temperature": 1 / inverse,
        "slope": slope,
        "intercept": intercept,
        "isotonic": isotonic.predict(odds(numpy.array(at))).tolist(),
    }


def main():
    rng = random.Random(0)
    lines = []
    for name, scores, labels in cases(rng):
        at = [0.0, 1e-9, 1 - 1e-9, 1.0, *(rng.random() for _ in range(30)), *scores[:30]]
        case = {"name": name, "scores": scores, "labels": labels, "at": at, "expected": expectation(scores, labels, at)}
        lines.append(json.dumps(case, allow_nan=False))
    pathlib.Path("test/oracles/calibration.json").write_text(
        "{\n"
        f'  "by": "scikit-learn {sklearn.__version__}",\n'
        '  "cases": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"
    )


main()
