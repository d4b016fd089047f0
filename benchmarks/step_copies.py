"""Where a step's time goes under XLA when nothing is pruned yet: what touches a kernel.

    python -m benchmarks.step_copies

compiles a step of gradient descent on a Dense layer without bias, as it is and wrapped,
and lists the operations of the compiled program whose result is as large as the kernel:
each writes it all once. The dense step has two, the gradient and the new kernel. The
wrapped step chooses among three branches, forwards and for the gradient: 0 before
pruning begins, 1 on the ramp, 2 with frozen masks.
"""

import collections
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from keras_pdp import PDPCallback, PDPWrapper

INPUTS, UNITS, BATCH = 1024, 512, 16
SHAPES = rf"{INPUTS},{UNITS}|{UNITS},{INPUTS}|{INPUTS * UNITS}"
RATE = 0.01  # a constant of the program, so that no other operation is needed
# `%name = f32[1024,512]{1,0} operation(` of XLA's text
WRITES = re.compile(
    rf"^\s*(?:ROOT )?%\S+ = f32\[(?:{SHAPES})\]\S* (?P<operation>[a-z-]+)\("
)
OPENS = re.compile(r"^(?:ENTRY )?%(?P<name>\S+) .*\{$")
# They name what is there, and write nothing.
FREE = {"parameter", "bitcast", "get-tuple-element", "constant", "iota"}


def program(layer: keras.Layer) -> str:
    """XLA's program of one step, optimised."""
    entry = keras.Input((INPUTS,))
    model = keras.Model(entry, layer(entry))
    (kernel,) = model.trainable_variables
    if isinstance(layer, PDPWrapper):
        PDPCallback(0.9).set_model(model)  # a training without it is warned of

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def step(batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(batch, training=True)))
        kernel.value.assign_sub(RATE * tape.gradient(loss, kernel.value))
        return loss

    batch = tf.random.normal((BATCH, INPUTS))
    return str(step.experimental_get_compiler_ir(batch)(stage="optimized_hlo"))


def writes(text: str) -> collections.Counter[tuple[str, str]]:
    """How often which operation writes a whole kernel, by the part that it is in."""
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    part = ""
    for line in text.splitlines():
        if opened := OPENS.match(line):
            part = opened["name"]
        written = WRITES.match(line)
        # What a fusion is made of is not written, the fusion's result is.
        if written and "fused" not in part and written["operation"] not in FREE:
            found[part, written["operation"]] += 1
    return found


def main() -> None:
    dense = keras.layers.Dense(UNITS, use_bias=False)
    wrapped = PDPWrapper(keras.layers.Dense(UNITS, use_bias=False))
    for name, layer in (("dense", dense), ("wrapped", wrapped)):
        print(f"{name}, a kernel of {INPUTS} x {UNITS}")
        for (part, operation), times in writes(program(layer)).items():
            print(f"  {times} x {operation:<12} in {part}")


if __name__ == "__main__":
    main()
