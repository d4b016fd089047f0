"""Runs on ARM64:  inside.py FILE INPUTS.npz OUTPUTS.npz

Needs nothing but numpy and ai-edge-litert.
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

file, inputs, outputs = sys.argv[1:]
given = dict(np.load(inputs))
count = len(next(iter(given.values())))

interpreter = Interpreter(file, num_threads=1)
interpreter.allocate_tensors()
run = interpreter.get_signature_runner()
rows = [
    run(**{name: array[i : i + 1] for name, array in given.items()})
    for i in range(count)
]
joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
np.savez(outputs, **joined)  # type: ignore[arg-type]
