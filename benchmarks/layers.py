"""Every kind of layer, pruned to 75 % by fit: the sparsity reached, what strip changes.

    python -m benchmarks.layers

One row for each layer of the tests' table (tests/training/cases.py). The difference is
the largest between the wrapped model's predictions and the stripped one's.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from keras_pdp import PDPCallback, PDPWrapper, pruned_layers, sparsity_report, strip
from tests.training.cases import LAYERS

SPARSITY, EPOCHS = 0.75, 4

print(f"{'layer':<22}{'kernels':>8}{'weights':>9}{'sparsity':>10}{'difference':>12}")
for name, case in LAYERS.items():
    model = case.model(PDPWrapper)
    x, y = case.inputs(), np.zeros((len(case.inputs()[0]), 1))
    callbacks = [PDPCallback(SPARSITY)]
    model.fit(x, y, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    stripped = strip(model)
    difference = np.abs(
        model.predict(x, verbose=0) - stripped.predict(x, verbose=0)
    ).max()
    # Counted in the stripped model, over the kernels that were wrapped.
    (wrapper,) = pruned_layers(model)
    tensors = sparsity_report(stripped).tensors[: len(wrapper.kernels)]
    size, zeros = sum(t.size for t in tensors), sum(t.zeros for t in tensors)
    print(
        f"{name:<22}{len(tensors):>8}{size:>9,}{zeros / size:>10.2%}{difference:>12.1e}"
    )
