"""Which trainings of the step time benchmark are compared with which dense one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.step_time_ours import ramp, ramp_sorted, tail, warm_up
from benchmarks.step_time_peers import dense_keras_2, pquant, tfmot
from benchmarks.step_time_training import Prepare, dense


@dataclass(frozen=True)
class Framework:
    """A Keras, and the trainings that are compared with its dense one.

    Args:
        title: in the table.
        keras: the module that builds its nets.
        variants: how each of them is set up; the first is the dense one.
        peer: whether it is of others: that it can't do something is a result.
        environment: variables that its process needs.
    """

    title: str
    keras: str
    variants: Mapping[str, Prepare]
    peer: bool
    environment: Mapping[str, str] = field(default_factory=dict)


FRAMEWORKS = {
    "keras": Framework(
        "Keras 3",
        "keras",
        {
            "dense": dense,
            "ours, warm-up": warm_up,
            "ours, ramp": ramp,
            "ours, frozen tail": tail,
            "ours, ramp, by sorting": ramp_sorted,
        },
        peer=False,
    ),
    "tfmot": Framework(
        "Keras 2",
        "tf_keras",
        {
            "dense": dense_keras_2,
            "tfmot, every 100 steps": tfmot(100),
            "tfmot, every step": tfmot(1),
        },
        peer=True,
        environment={"TF_USE_LEGACY_KERAS": "1"},
    ),
    "pquant": Framework(
        "Keras 3, PQuantML's Python",
        "keras",
        {"dense": dense, "PQuantML's PDP": pquant},
        True,
    ),
}
