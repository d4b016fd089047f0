"""PDPWrapper: masks the kernels of any Keras layer while that layer runs.

`keras.StatelessScope` replaces the value of a variable for the time of a call. With it
one wrapper serves every layer: the inner layer runs as it is, and reads masked kernels.
"""

import inspect
import warnings
from typing import Any

import keras

from keras_pdp.sparsity import granularity as granularities
from keras_pdp.sparsity import temperature as temperatures
from keras_pdp.sparsity import validation
from keras_pdp.sparsity.granularity import Granularity, Unstructured
from keras_pdp.sparsity.temperature import Temperature
from keras_pdp.training import inner_call, prunable, tree
from keras_pdp.training.compiled import read
from keras_pdp.training.inner_call import Recording
from keras_pdp.training.prunable import PrunableWeight
from keras_pdp.training.pruned_channels import PrunedChannels, prunes_outputs
from keras_pdp.training.pruned_kernel import PrunedKernel
from keras_pdp.training.state_check import check_state


@keras.saving.register_keras_serializable(package="keras_pdp")
class PDPWrapper(keras.layers.Layer):
    """Prunes the kernels of a layer by parameter-free differentiable pruning.

    In training the layer computes with `m(w) * w`, the soft mask of
    `keras_pdp.sparsity.mask`, which hardens with the schedule while the gradient stays
    that of the soft one; in evaluation and prediction with the hard mask, so that
    validation measures what will ship; once frozen with the stored mask in both. At
    sparsity 0, where every wrapper starts, it is the layer itself. `PDPCallback` moves
    the sparsity; `strip` gives the plain layer back.

    The wrapper has no trainable weights of its own. Regularisers, constraints, losses,
    masks, call arguments and the dtype policy are those of the inner layer. A kernel
    regulariser sees the unmasked weights. The gradient of a masked embedding is dense,
    so that optimizers with a sparse update (Adam) move rows that were not looked up.
    Methods of a layer, such as `reset_state` of a stateful RNN, are called on `.layer`.
    Around RNN and Bidirectional, not into them: their cells and layers need attributes
    and arguments that a wrapper does not have.

    Args:
        layer: The `keras.layers.Layer` to prune; a model or block as well. Every
            kernel in it is pruned, however deep it sits; tables of embeddings only
            where it is an Embedding itself, and by `NofM` depthwise kernels only where
            it is a depthwise convolution itself. With `Channel()` also a
            BatchNormalization behind kernels that are pruned by channels.
        granularity: What is pruned together: `Unstructured()`, `NofM(n, m)`,
            `Block(shape)` or `Channel()`. Defaults to `Unstructured()`.
        sparsity: This layer's own final sparsity in [0, 1), which takes it out of the
            budget that the others share. Defaults to None: it shares the budget.
        temperature: How soft the mask is: `Calibrated(kappa)` or `Absolute(tau)`.
            Defaults to `Calibrated(2.0)`, with `Channel` to `Calibrated(20.0)`.
        **kwargs: `name` and `trainable`. The name defaults to the inner layer's.

    Raises:
        TypeError: If an argument is of the wrong type, such as a tensor for a layer.
        ValueError: If `sparsity` is not in [0, 1), or the layer is a PDPWrapper. On
            building, if there is nothing to prune in the layer.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((28, 28, 1)),
    ...     PDPWrapper(keras.layers.Conv2D(32, 3, activation="relu")),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     PDPWrapper(keras.layers.Dense(10)),
    ... ])

    Reference: Cho, Adya, Naik, "PDP: Parameter-free Differentiable Pruning is All You
    Need", NeurIPS 2023, arXiv 2305.11203.
    """

    def __init__(
        self,
        layer: keras.Layer,
        granularity: Granularity | None = None,
        *,
        sparsity: float | None = None,
        temperature: Temperature | None = None,
        **kwargs: Any,
    ) -> None:
        _check_layer(layer)
        if "dtype" in kwargs:
            raise TypeError(
                "PDPWrapper has no `dtype` of its own: set it on the wrapped layer. "
                f"Received: dtype={kwargs['dtype']!r}."
            )
        self._check_values(granularity, temperature, sparsity)
        # Keras reads the signature of `call` in the line after, and it is the layer's.
        object.__setattr__(self, "_call_as", inner_call.signature_of(layer))
        # Or a frozen layer would be in a wrapper that says it trains.
        kwargs.setdefault("trainable", layer.trainable)
        # float32 without autocast: the kernels are read as they are stored, inputs pass
        # untouched, and the inner layer casts for itself.
        kwargs.setdefault("name", layer.name)
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.layer = layer
        if not self.trainable:
            layer.trainable = False  # a model asks its variables, not the wrapper
        self.granularity = Unstructured() if granularity is None else granularity
        if temperature is None:
            temperature = temperatures.default(self.granularity)
        self.temperature = temperature
        self.sparsity = None if sparsity is None else float(sparsity)
        self.supports_masking = layer.supports_masking
        self.kernels: list[PrunedKernel] = []
        # Batch normalisations along pruned channels: they follow, and do not count.
        self.scales: list[PrunedKernel] = []
        # Whether something moves the sparsity in this process; no part of the state.
        self.driven = False

    @property
    def call(self) -> Any:
        """The forward pass, with the signature of the wrapped layer's `call`.

        Keras passes masks, states and `training` on by the names it finds there.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._forward(*args, **kwargs)

        call.__signature__ = self._call_as  # type: ignore[attr-defined]
        return call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.built:
            if not self.layer.built:
                # Called with placeholders, so that Keras builds it for whatever
                # arguments its `call` and `build` take.
                with keras.name_scope(self.name):
                    placeholders = inner_call.placeholders((args, kwargs))
                    self.layer(*placeholders[0], **placeholders[1])
            self.build()
        return super().__call__(*args, **kwargs)

    def build(self, *shapes: Any, **named_shapes: Any) -> None:
        """Builds the layer, where it is not, and the state of its kernels."""
        if not self.layer.built:
            self.layer.build(*shapes, **named_shapes)
        if self.gated:
            return
        found, skipped = prunable.inside(self.layer, self.granularity)
        gates_outputs = prunes_outputs(self.granularity, axes=2)
        scales = prunable.scales(self.layer) if gates_outputs else []
        if not found and not scales:
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped)
            raise ValueError(
                f"PDPWrapper found nothing to prune in '{self.layer.name}' "
                f"(a {type(self.layer).__name__}). "
                + (
                    reasons
                    or "It has no kernel of two or more axes, or only tables of "
                    "embeddings in other layers."
                )
                + " Leave the layer unwrapped, or tell keras_pdp about its kernels."
            )
        self.frozen = self.add_weight(
            name="frozen",
            shape=(),
            dtype="bool",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        self.kernels = [self._pruned(weight) for weight in found]
        self.scales = [self._pruned(weight) for weight in scales]
        if self.kernels and not any(kernel.prunable for kernel in self.kernels):
            shapes_found = {k.name: k.shape for k in self.kernels}
            raise ValueError(
                f"{self.granularity} can remove nothing from '{self.layer.name}': its "
                f"kernels, as (*window, in, out), are {shapes_found}. Choose a finer "
                "granularity or leave the layer unwrapped."
            )

    def freeze(self) -> None:
        """Stores the hard masks and uses them from now on, in training as well."""
        for kernel in self.gated:
            kernel.freeze()
        self.frozen.assign(True)

    def check_kernels(self) -> None:
        """Raises unless the layer still has what is masked."""
        there = {id(variable) for variable in self.layer.variables}
        for kernel in self.gated:
            if id(kernel.variable) not in there:
                raise ValueError(
                    f"'{self.layer.name}' has no kernel '{kernel.variable.path}' any "
                    "more: it was quantized or rebuilt. Use strip(model) before that."
                )

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if not self._inner_takes_training:
            kwargs.pop("training", None)
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_mask(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.pop("dtype")
        serialize = keras.saving.serialize_keras_object
        return {
            **config,
            "layer": serialize(self.layer),
            "granularity": serialize(self.granularity),
            "sparsity": self.sparsity,
            "temperature": serialize(self.temperature),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "PDPWrapper":
        config = dict(config)  # the caller keeps his own
        # Built with the wrapper and not before, so that the paths of its variables,
        # by which OrbaxCheckpoint finds them, are those of the definition.
        if isinstance(config["layer"], dict):
            config["layer"] = {**config["layer"], "build_config": None}
        for key in ("layer", "granularity", "temperature"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects=custom_objects
            )
        return cls(**config)

    def get_build_config(self) -> dict[str, Any] | None:
        inner = self.layer.get_build_config()
        return {"layer": inner} if inner else None

    def build_from_config(self, config: dict[str, Any]) -> None:
        if not self.layer.built:
            with keras.name_scope(self.name):
                self.layer.build_from_config(config["layer"])
        self.build()

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        inner = {id(variable) for variable in self.layer.variables}
        own = [v for v in self.variables if id(v) not in inner]
        check_state(self.name, self.gated, own)

    @property
    def gated(self) -> list[PrunedKernel]:
        """All that is masked: the kernels, and the scales that follow channels."""
        return [*self.kernels, *self.scales]

    def pdp_weights(self) -> list[keras.Variable]:
        """None: its own weights are the state of the pruning."""
        return []

    def _pruned(self, weight: PrunableWeight) -> PrunedKernel:
        axes = len(weight.layout.groups)
        outputs = prunes_outputs(self.granularity, axes)
        kind = PrunedChannels if outputs else PrunedKernel
        return kind(weight, self.granularity, self.temperature, self)

    @property
    def _inner_takes_training(self) -> bool:
        return "training" in inspect.signature(self.layer.call).parameters

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._call_as.bind(*args, **kwargs)
        training = bool(bound.arguments.get("training"))
        if not self._inner_takes_training:
            kwargs.pop("training", None)
        if training and not self.driven:
            _warn_not_driven()

        self.check_kernels()
        values = {id(v): read(v) for v in self.layer.variables}
        for kernel in self.gated:
            values |= kernel.masked(values, read(self.frozen), training)
        # All variables are mapped: one that is not falls back to its stored value,
        # which in a step of another framework's making (JAX) is not the current one.
        scope = Recording([(v, values[id(v)]) for v in self.layer.variables])
        with scope:
            outputs = self.layer(*args, **kwargs)
        for loss in scope.losses:
            # A new tensor: in a stateless step (JAX) Keras tells whose loss it is by
            # identity, and would count the same one for the inner layer as well.
            self.add_loss(loss + 0.0)
        self._write_back(scope)
        return outputs

    def _write_back(self, scope: Recording) -> None:
        """Keeps the statistics, seeds and states that the layer updated as it ran."""
        kernels = {id(kernel.variable) for kernel in self.kernels}
        for variable in scope.updated.values():
            if id(variable) in kernels:
                raise ValueError(
                    f"'{self.layer.name}' assigns to its kernel '{variable.path}' "
                    "while it runs, which a masked kernel does not allow: leave the "
                    "layer unwrapped."
                )
            variable.assign(scope.get_current_value(variable))

    @staticmethod
    def _check_values(granularity: Any, temperature: Any, sparsity: Any) -> None:
        if granularity is not None:
            granularities.check(granularity)
        if temperature is not None:
            temperatures.check(temperature)
        if sparsity is None:
            return
        validation.sparsity("sparsity", sparsity)
        keep = getattr(granularity, "kept_per_pool", None)
        if keep is not None:
            raise ValueError(
                f"{granularity} fixes the sparsity itself; leave `sparsity` out. "
                f"Received: sparsity={sparsity!r}."
            )


def _check_layer(layer: Any) -> None:
    """Raises unless `layer` is a Keras 3 layer that is not wrapped yet."""
    if isinstance(layer, PDPWrapper):
        raise ValueError(
            f"'{layer.name}' is a PDPWrapper already; a layer is wrapped once."
        )
    if isinstance(layer, keras.Layer):
        inside = [n for n, x in tree.walk(layer) if isinstance(x, PDPWrapper)]
        if inside:
            raise ValueError(
                f"'{layer.name}' holds PDPWrapper layers already: {inside}. A kernel "
                "is wrapped once: either these layers or the one around them."
            )
        return
    what = f"{type(layer).__module__}.{type(layer).__qualname__}"
    hint = ""
    if isinstance(layer, type):
        what, hint = f"the class {layer.__name__}", " Instantiate it first."
    elif "tf_keras" in what or hasattr(layer, "_keras_api_names"):
        hint = " It belongs to the legacy Keras 2; build it with `import keras`."
    elif hasattr(layer, "shape"):
        hint = " Wrap the layer before calling it: PDPWrapper(layer)(x)."
    raise TypeError(
        f"PDPWrapper takes a layer of Keras 3, a keras.Layer. Received: {what}.{hint}"
    )


def _warn_not_driven() -> None:
    warnings.warn(
        "A model with PDPWrapper layers is being trained, but nothing moves their "
        "sparsity: it stays as it is, at 0 in a new model. Add PDPCallback to the "
        "callbacks of `fit`, or call its `update` in your own training loop.",
        stacklevel=2,
    )
