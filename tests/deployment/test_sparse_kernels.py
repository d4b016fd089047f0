"""Verdicts against what the sparse kernels compute, in headless Chromium.

On some nets of the table and some random ones. With `KERAS_PDP_RANDOM_NETS` on the
whole table and so many random nets:

    KERAS_PDP_RANDOM_NETS=60 pytest tests/deployment/test_sparse_kernels.py -s
"""

import os
from collections import Counter

import keras
import numpy as np
import pytest

from benchmarks.web.browser import Browser, Job
from benchmarks.web.parts import missing
from keras_pdp.deployment.conversion import converted
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.sparse_inference import judged
from keras_pdp.deployment.sparse_writer import sparsely_stored
from keras_pdp.deployment.verification import loaded
from tests.deployment.nets import images, pruned
from tests.deployment.sparse_cases import CASES, random_net

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

# Of the largest centred logit: rounding is some 1e-7 of each of a hundred sums.
TOLERANCE = 1e-5
AT_ONCE = 20
ASKED = int(os.environ.get("KERAS_PDP_RANDOM_NETS", 0))
RANDOM = [f"random {i}" for i in range(ASKED or 3)]
NAMES = [*(CASES if ASKED else list(CASES)[::5]), *RANDOM]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """`{name: (verdict, relative difference, whether the sparse kernels ran)}`."""
    folder = tmp_path_factory.mktemp("files")
    cases = [_case(name, folder) for name in NAMES]
    jobs = [Job(path, inputs) for _, inputs, _, *paths in cases for path in paths]
    results = []
    with Browser() as browser:
        for start in range(0, len(jobs), AT_ONCE):
            results += browser.run(jobs[start : start + AT_ONCE])
    pairs = zip(cases, results[::2], results[1::2], strict=True)
    found = {
        name: (verdict, *_outcome(expected, dense, sparse))
        for (name, _, (verdict, expected), *_), dense, sparse in pairs
    }
    _print_tally(found)
    return found


def _case(name, folder):
    keras.utils.clear_session()
    build = CASES[name][0] if name in CASES else lambda: random_net(int(name[7:]))
    model = pruned(build())
    signature = signature_of(model)
    dense = converted(signature, None, {})
    sparse = sparsely_stored(dense).data
    stem = folder / name.replace(" ", "_").replace(",", "")
    paths = [stem.with_suffix(f".{kind}.tflite") for kind in ("dense", "sparse")]
    for path, data in zip(paths, (dense, sparse), strict=True):
        path.write_bytes(data)
    inputs = {each.name: images(each.shape) for each in signature.inputs}
    return name, inputs, (judged(sparse).verdict, loaded(dense).all(inputs)), *paths


def _outcome(expected, dense, sparse):
    """The dense kernels give the same bits from both files, the sparse ones do not."""
    assert dense.error is None
    if sparse.error:
        return np.inf, True
    difference = max(
        _difference(expected[key], sparse.outputs[key]) for key in expected
    )
    ran = any(
        not np.array_equal(dense.outputs[key], sparse.outputs[key]) for key in expected
    )
    return difference, ran


def _difference(expected, received):
    if not np.isfinite(received).all():
        return np.inf
    expected, received = (
        x.astype(np.float64) - x.astype(np.float64).mean(0)
        for x in (expected, received)
    )
    return np.abs(expected - received).max() / np.abs(expected).max()


def _print_tally(found):
    tally = Counter(
        (verdict, "right" if error <= TOLERANCE else "wrong", "sparse" if ran else "")
        for verdict, error, ran in found.values()
    )
    for (verdict, outcome, kernels), count in sorted(tally.items()):
        print(f"{verdict:9}{outcome:6}{kernels:7}{count:4}")


@pytest.mark.parametrize("name", NAMES)
def test_verdict(outcomes, name):
    """An unsafe net may turn out right: a miss to the safe side."""
    verdict, difference, ran = outcomes[name]
    if verdict != "unsafe":
        assert difference <= TOLERANCE
        assert ran == (verdict == "eligible")


def test_what_is_unsafe_is_mostly_wrong(outcomes):
    """Else the rules would only be over-careful."""
    wrong = [
        difference > TOLERANCE
        for verdict, difference, _ in outcomes.values()
        if verdict == "unsafe"
    ]
    assert np.mean(wrong) > 0.5
