"""What the distribution tests run, in a process for each kind of cluster.

    python -m tests.distribution.programs one_device mirrored mirrored_resumed

prints a line of JSON for each: digests of the masks on every replica, the weights and
the sparsity. The number of devices has to be set before a backend starts.
"""

import functools
import hashlib
import json
import os
import pathlib
import sys

import numpy as np

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 16)).astype("float32")
Y = (X[:, :1] * X[:, 1:2]).astype("float32")
EPOCHS, BATCH = 4, 16


def network():
    import keras

    from keras_pdp import wrap

    keras.utils.set_random_seed(7)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(32, activation="relu", name="one"),
            layers.Dense(16, activation="relu", name="two"),
            layers.Dense(1, name="out"),
        ]
    )
    model = wrap(model)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    return model


def trained(model, first=0, last=EPOCHS):
    from keras_pdp import PDPCallback

    pdp = PDPCallback(0.8, epochs=EPOCHS)
    model.fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=last,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=[pdp],
    )
    return model


def looped(model, strategy, first=0, last=EPOCHS):
    """As `trained`, in a loop of its own: `fit` of Keras takes no several workers."""
    import tensorflow as tf

    from keras_pdp import PDPCallback

    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    batches = strategy.experimental_distribute_dataset(batches)

    @tf.function
    def step(x, y):
        def replica(x, y):
            with tf.GradientTape() as tape:
                error = tf.reduce_sum(tf.square(model(x, training=True) - y))
                loss = error / BATCH
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)

        strategy.run(replica, args=(x, y))

    pdp = PDPCallback(0.8)
    pdp.set_model(model)
    steps = len(X) // BATCH
    for epoch in range(first, last):
        for i, (x, y) in enumerate(batches):
            pdp.update((epoch + i / steps) / EPOCHS)
            step(x, y)
    pdp.update(last / EPOCHS)
    return model


def resumed(make, train=trained):
    """2 + 2 epochs through a file, in a new model."""
    path = pathlib.Path(os.environ["KERAS_PDP_FOLDER"]) / "half.keras"
    half = train(make(), last=2)
    half.save(path)
    return path


def account(model, replicas=None):
    from keras_pdp import pruned_layers, sparsity_report, strip

    masks = {
        f"{wrapper.name}/{kernel.name}": _array(kernel.mask)
        for wrapper in pruned_layers(model)
        for kernel in wrapper.kernels
    }
    stripped = strip(model)
    return {
        "masks": {k: digest(m) for k, m in masks.items()},
        "replicas": replicas or {},
        "weights": [
            w.astype("float64").ravel().tolist() for w in stripped.get_weights()
        ],
        "sparsity": sparsity_report(stripped).sparsity,
    }


def _array(variable):
    import keras

    return keras.ops.convert_to_numpy(keras.ops.reshape(variable.value, variable.shape))


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def one_device():
    return account(trained(network()))


def mirrored(resume):
    import tensorflow as tf

    return _under(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), resume)


def two_cpus():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    tf.config.set_logical_device_configuration(cpu, parts)


def _under(strategy, resume, train=trained):
    import keras

    from keras_pdp import pruned_layers

    with strategy.scope():
        if resume:
            path = resumed(network, train)
            model = train(keras.models.load_model(path), first=2)
        else:
            model = train(network())
    assert strategy.num_replicas_in_sync > 1
    replicas = {}
    for wrapper in pruned_layers(model):
        for kernel in wrapper.kernels:
            state = (kernel.mask, kernel.pruned, kernel.target, kernel.tau)
            for variable in (*state, kernel.hardness):
                copies = strategy.experimental_local_results(variable.value)
                replicas[f"{wrapper.name}/{variable.name}"] = [
                    digest(c.numpy()) for c in copies
                ]
    return account(model, replicas)


def workers(resume):
    """This process is one of two; TF_CONFIG says which."""
    strategy = _multi_worker()
    return _under(strategy, resume, functools.partial(looped, strategy=strategy))


@functools.cache
def _multi_worker():
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy()


def data_parallel(resume):
    import keras

    return _on_jax(keras.distribution.DataParallel(), resume)


def model_parallel(resume):
    import keras

    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"))
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*one/kernel"] = (None, "model")
    layout[".*one/kernel_mask"] = (None, "model")
    layout[".*one/bias"] = ("model",)
    return _on_jax(
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
        resume,
    )


def _on_jax(distribution, resume):
    import keras

    from keras_pdp import pruned_layers

    keras.distribution.set_distribution(distribution)
    if resume:
        model = trained(keras.models.load_model(resumed(network)), first=2)
    else:
        model = trained(network())
    keras.distribution.set_distribution(None)
    replicas = {}
    for wrapper in pruned_layers(model):
        for kernel in wrapper.kernels:
            state = (kernel.mask, kernel.pruned, kernel.target, kernel.tau)
            for variable in (*state, kernel.hardness, kernel.variable):
                # Shards of one part of the array, on as many devices, are copies.
                parts = {}
                for shard in variable.value.addressable_shards:
                    parts.setdefault(str(shard.index), set()).add(
                        digest(np.asarray(shard.data))
                    )
                for part, digests in parts.items():
                    replicas[f"{wrapper.name}/{variable.name} {part}"] = sorted(digests)
    return account(model, replicas)


KINDS = {f.__name__: f for f in (mirrored, workers, data_parallel, model_parallel)}


def result(case):
    kind = case.removesuffix("_resumed")
    return one_device() if kind == "one_device" else KINDS[kind](kind != case)


if __name__ == "__main__":
    if "mirrored" in sys.argv:
        two_cpus()
    if "workers" in sys.argv:
        _multi_worker()  # has to come before any other operation
    for case in sys.argv[1:]:
        print("RESULT " + json.dumps([case, result(case)]), flush=True)
