"""A functional model's graph while it is rewritten, one layer at a time."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.training import copies, rebuild

_TENSOR = "__keras_tensor__"


class Draft:
    """The layers of a model and who reads whom; `model()` builds the rewritten one.

    Layers that are called more than once, and ops that are no layers, can be read past
    but not changed.

    Args:
        model: a functional model. It stays as it is.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._config = model.get_config()
        self._entries: dict[str, dict[str, Any]] = {
            entry["name"]: {**entry, "inbound_nodes": copy.deepcopy(_calls(entry))}
            for entry in self._config["layers"]
        }
        self._outputs = copy.deepcopy(self._config["output_layers"])
        self._layers = {layer.name: layer for layer in model.layers}
        self._weights: dict[str, Sequence[Array]] = {}
        self._changed: set[str] = set()

    @property
    def names(self) -> list[str]:
        """All layers and ops, in the model's order."""
        return list(self._entries)

    @property
    def is_changed(self) -> bool:
        """Whether anything was rewritten."""
        return bool(self._changed) or set(self._entries) != set(self._layers)

    def layer(self, name: str) -> keras.Layer | None:
        """The layer of that name; `None` for an op, or a layer called repeatedly.

        Also `None` for a layer that was taken out.
        """
        entry = self._entries.get(name)
        once = entry is not None and len(entry["inbound_nodes"]) == 1
        return self._layers.get(name) if once else None

    def channels(self, name: str) -> int:
        """Size of the last axis of what it computes, as it was in the model."""
        return int(self._model.get_layer(name).output.shape[-1])

    def is_input(self, name: str) -> bool:
        """Whether it is an input of the model."""
        return not self._entries[name]["inbound_nodes"]

    def is_output(self, name: str) -> bool:
        """Whether the model gives what it computes."""
        return any(history[0] == name for history in _histories(self._outputs))

    def sources(self, name: str) -> list[str]:
        """The layers and ops that it reads."""
        calls = self._entries[name]["inbound_nodes"]
        return [history[0] for history in _read(calls)]

    def source(self, name: str) -> str | None:
        """The only one that it reads; `None` if it reads several tensors."""
        sources = self.sources(name)
        return sources[0] if len(sources) == 1 else None

    def users(self, name: str) -> list[str]:
        """The layers and ops that read it, each once."""
        return [each for each in self._entries if name in self.sources(each)]

    def user(self, name: str) -> str | None:
        """The only one that reads it; `None` for several, none, or the model itself."""
        users = self.users(name)
        return users[0] if len(users) == 1 and not self.is_output(name) else None

    def replace(
        self, name: str, layer: keras.Layer, weights: Sequence[Array] | None = None
    ) -> None:
        """Puts another layer of the same name in the place of one.

        Args:
            name: the layer.
            layer: the new one, not built.
            weights: for the new one; by default those of the old one.
        """
        old = self._layers[name]
        given = old.get_weights() if weights is None else weights
        self._entries[name] = self._entry(layer, self._entries[name]["inbound_nodes"])
        self._layers[name], self._weights[name] = layer, given
        self._changed.add(name)

    def insert(
        self, layer: keras.Layer, before: str, weights: Sequence[Array] = ()
    ) -> None:
        """Puts a layer between a layer that reads one tensor and what it reads."""
        name = layer.name
        (history,) = _read(self._entries[before]["inbound_nodes"])
        calls = [{"args": [_reference(*history)], "kwargs": {}}]
        self._add(layer, calls, weights, ahead_of=before)
        history[:] = [name, 0, 0]

    def append(
        self, layer: keras.Layer, after: str, weights: Sequence[Array] = ()
    ) -> None:
        """Puts a layer between a layer and all that read it, the model as well."""
        users = [self._entries[each]["inbound_nodes"] for each in self.users(after)]
        calls = [{"args": [_reference(after)], "kwargs": {}}]
        following = [*self._entries, ""][self.names.index(after) + 1]
        self._add(layer, calls, weights, ahead_of=following)
        for history in (*_read(users), *_histories(self._outputs)):
            if history[0] == after:
                history[:] = [layer.name, 0, 0]

    def bypass(self, name: str, skipped: str) -> None:
        """Lets a layer read what one of its sources reads; that one stays."""
        (kept,) = _read(self._entries[skipped]["inbound_nodes"])
        for history in _read(self._entries[name]["inbound_nodes"]):
            if history[0] == skipped:
                history[:] = kept

    def remove(self, name: str) -> None:
        """Takes out a layer that reads one tensor; its readers read that."""
        (kept,) = _read(self._entries[name]["inbound_nodes"])
        users = [self._entries[each]["inbound_nodes"] for each in self.users(name)]
        for history in (*_read(users), *_histories(self._outputs)):
            if history[0] == name:
                history[:] = kept
        del self._entries[name]
        self._changed.add(name)

    def free_name(self, wish: str) -> str:
        """The wish, or with a number where it is taken."""
        number, name = 1, wish
        while name in self._entries:
            number, name = number + 1, f"{wish}_{number}"
        return name

    def model(self) -> keras.Model:
        """The rewritten model, with the weights, compiled as the old one is."""

        def describe(_: keras.Model, config: dict[str, Any]) -> dict[str, Any]:
            if config["name"] != self._config["name"]:
                return config  # a model inside
            return {
                **config,
                "layers": list(self._entries.values()),
                "output_layers": self._outputs,
            }

        def replaced(layer: keras.Layer) -> keras.Layer:
            new = self._layers.get(layer.name)
            is_new = layer.name in self._changed and new is not None
            return new if is_new else copies.copy_of(layer)

        def transfer(old: keras.Layer, new: keras.Layer) -> None:
            if old.name in self._weights:
                new.set_weights(self._weights[old.name])
                return
            for variable, to in zip(old.variables, new.variables, strict=True):
                to.assign(keras.ops.copy(variable.value))

        result = rebuild.rebuilt(self._model, replaced, transfer, describe)
        for name, weights in self._weights.items():
            if name in self._entries and weights:
                result.get_layer(name).set_weights(weights)
        return result

    def _add(
        self,
        layer: keras.Layer,
        calls: list[Any],
        weights: Sequence[Array],
        ahead_of: str,
    ) -> None:
        entries = {}
        for name, entry in (*self._entries.items(), ("", {})):
            if name == ahead_of:
                entries[layer.name] = self._entry(layer, calls)
            if name:
                entries[name] = entry
        self._entries = entries
        self._layers[layer.name], self._weights[layer.name] = layer, weights

    def _entry(self, layer: keras.Layer, calls: list[Any]) -> dict[str, Any]:
        described = keras.saving.serialize_keras_object(layer)
        # the shape that an old layer was built with is not that of the new place
        described.pop("build_config", None)
        return {**described, "name": layer.name, "inbound_nodes": calls}


def _calls(entry: dict[str, Any]) -> list[Any]:
    calls: list[Any] = entry["inbound_nodes"]
    return calls


def _reference(name: str, call: int = 0, output: int = 0) -> dict[str, Any]:
    # shape and dtype are what Keras writes for a reader; it looks up the history alone
    history = [name, call, output]
    config = {"shape": [], "dtype": "float32", "keras_history": history}
    return {"class_name": _TENSOR, "config": config}


def _read(value: Any) -> Iterator[list[Any]]:
    """The history `[layer, call, output]` of every tensor in the calls of a layer."""
    if isinstance(value, dict) and value.get("class_name") == _TENSOR:
        yield value["config"]["keras_history"]
    elif isinstance(value, dict):
        for each in value.values():
            yield from _read(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _read(each)


def _histories(value: Any) -> Iterator[list[Any]]:
    """The same of the outputs of a model, which are written without more."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _histories(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _histories(each)
