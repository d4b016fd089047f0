"""Runs a pure function of tensors as one compiled function, whatever the step is.

In graph mode and eagerly TensorFlow runs an operation at a time, and threshold and mask
would read the kernel dozens of times. Compiled on its own, inside whatever step the
user runs, they cost a few percent of the step and leave its `jit_compile` alone. On JAX
the function is compiled too, which inside a compiled step changes nothing and serves
the calls outside of one. On PyTorch it runs as it is.
"""

import functools
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
from keras import ops

Program = Callable[..., Any]
Setter = Callable[[int | float], None]


def choose(number: Any, branches: Sequence[Callable[[], Any]]) -> Any:
    """What the branch of that number gives; `ops.switch`, where Keras can trace it.

    Where Keras infers shapes on PyTorch a number has no value. `ops.switch` fails then,
    and Keras runs the whole model instead; `ops.cond` takes its first branch.

    Args:
        number: int32 scalar tensor, from 0.
        branches: Functions of nothing, whose results are alike.
    """
    if keras.backend.backend() != "torch":
        return ops.switch(number, branches)
    first, *others = branches
    if not others:
        return first()
    return ops.cond(number == 0, first, lambda: choose(number - 1, others))


def compiled(function: Program, **static: Hashable) -> Program:
    """The function with its static arguments bound, compiled where the backend can.

    One program is compiled for each shape and dtype and serves all kernels that share
    them, with whatever values the tensors have.

    Args:
        function: A pure function of tensors, at module level.
        **static: Its arguments that are no tensors; hashable.

    Returns:
        A function of the remaining, tensor arguments.
    """

    return _by_signature(function, static, _compiled)


def traced_once(function: Program, **static: Hashable) -> Program:
    """The function with its static arguments bound, traced once on TensorFlow.

    There a layer's `call` is traced anew in every function that it is part of, twice in
    a first step that makes variables, and that for each layer: where a choice among
    branches is part of it, this takes longer than tracing the layer. Kernels of one
    shape share the function, which TensorFlow puts in the place of its calls when it
    runs.

    Args:
        function: A pure function of tensors, at module level.
        **static: Its arguments that are no tensors; hashable.

    Returns:
        A function of the remaining, tensor arguments.
    """
    return _by_signature(function, static, _traced)


def has_own_gradients() -> bool:
    """Whether `with_gradient` sees to gradients; else the backend does."""
    return keras.backend.backend() == "tensorflow"


def with_gradient(
    value: Callable[..., tuple[Any, Any]], gradient: Callable[[Any, Any, Any], Any]
) -> Callable[..., Any]:
    """A function of tensors, on TensorFlow with a gradient of its own.

    TensorFlow's gradient of a compiled function keeps a copy of all that it takes.

    Args:
        value: The tensors -> a list of values, and what the gradient needs beside
            the tensors.
        gradient: The values' gradients, the tensors, and that -> a list of the tensors'
            gradients.

    Returns:
        A function of the tensors -> the list of values.
    """
    if not has_own_gradients():
        return lambda *given: value(*given)[0]
    import tensorflow as tf

    def both(*given: Any) -> Any:
        # Constants, as the gradient is ours: else TensorFlow prepares one of each
        # function that is called here.
        found, kept = value(*map(tf.stop_gradient, given))

        def back(*upstream: Any) -> Any:
            # An embedding's is a list of rows.
            dense = [tf.convert_to_tensor(each) for each in upstream]
            return gradient(dense, given, kept)

        return found, back

    return tf.custom_gradient(both)


def learning_as(values: list[Any], soft: Callable[[], list[Any]]) -> list[Any]:
    """The values, with the gradients of other, similar ones.

    On TensorFlow the values as they are: `with_gradient` sees to their gradients.

    Args:
        values: What is computed with.
        soft: Gives what they learn by.
    """
    if has_own_gradients():
        return values
    # Exactly 0 where the value is, and else the value to rounding.
    return [
        learns + ops.stop_gradient(value - learns)
        for value, learns in zip(values, soft(), strict=True)
    ]


def computed_again(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, of which nothing is kept for its gradient but its argument.

    On TensorFlow it is as it was: `with_gradient` sees to that, and Keras's
    rematerialisation there has no second derivative.
    """
    if has_own_gradients():
        return function
    return keras.remat(function)


def pulled_back(function: Callable[..., Any], given: Any, upstream: Any) -> Any:
    """The gradients of what is given from those of `function`.

    Only where gradients are our own.
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(given)
        values = function(*given)
    return tape.gradient(values, given, upstream)


def read(variable: keras.Variable) -> Any:
    """The variable's value as a tensor.

    On TensorFlow `value` is the tf.Variable itself: a compiled function would hold on
    to it rather than take its value. A reshape to the same shape reads it, at no cost
    on any backend.
    """
    return ops.reshape(variable.value, variable.shape)


def number(variable: keras.Variable) -> Any:
    """A scalar variable's value as an int, float or bool of Python.

    On any variable: `int` and `bool` don't take those of a distribution strategy.
    """
    return ops.convert_to_numpy(read(variable)).item()


def setter(variable: keras.Variable) -> Setter:
    """A function that sets a scalar variable.

    As `assign`, which on TensorFlow takes several times as long; a callback does this
    for every kernel after every step, where each attribute that is looked up counts.
    """
    if keras.backend.backend() != "tensorflow":
        return variable.assign
    import tensorflow as tf

    if isinstance(variable.value, tf.distribute.DistributedValues):
        return variable.assign
    handle, dtype = variable.value.handle, variable.dtype

    def put(value: int | float) -> None:
        tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value, dtype))

    return put


def _by_signature(
    function: Program,
    static: dict[str, Hashable],
    made: Callable[[Program, tuple[Any, ...], tuple[Any, ...]], Program],
) -> Program:
    """What is made of the function, one for each signature.

    TensorFlow warns of a single one that it is traced again and again.
    """

    def call(*tensors: Any) -> Any:
        signature = tuple((tuple(t.shape), str(t.dtype)) for t in tensors)
        return made(function, tuple(sorted(static.items())), signature)(*tensors)

    return call


@functools.cache
def _compiled(
    function: Program, static: tuple[Any, ...], signature: tuple[Any, ...]
) -> Program:
    bound = functools.partial(function, **dict(static))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Its plugin for Apple's GPUs has no XLA.
        apple = sys.platform == "darwin" and tf.config.list_physical_devices("GPU")
        return tf.function(bound, jit_compile=not apple, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(bound)
    return bound


@functools.cache
def _traced(
    function: Program, static: tuple[Any, ...], signature: tuple[Any, ...]
) -> Program:
    bound = functools.partial(function, **dict(static))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(bound, autograph=False)
    return bound
