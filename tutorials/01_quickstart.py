"""Train a small convolution net on Fashion-MNIST, dense and 90 % sparse, and compare.

    python tutorials/01_quickstart.py            a few minutes on two cores
    python tutorials/01_quickstart.py --short    seconds: every step, no good numbers

Both nets start from the same weights and train for the same number of epochs. Each is
exported as float32 and as int8 .tflite, and every number of the table at the end is
measured on these four files.
"""

import argparse
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices

import keras
from ai_edge_litert.interpreter import Interpreter
from fashion_mnist import load

from keras_pdp import PDPCallback, PDPWrapper, sparsity_report, strip, to_tflite

SPARSITY = 0.9
EPOCHS = 8
MIN_STEPS = 1_500  # a small data set is gone through more often
BATCH = 128
LEARNING_RATE = 2e-3  # Adam; falls to zero along a cosine
CALIBRATION_IMAGES = 200  # from which the int8 export takes its ranges
SEED = 0

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--short", action="store_true", help="a tenth of the data")
parser.add_argument("--out", type=Path, default=Path("out/quickstart"))
arguments = parser.parse_args()
arguments.out.mkdir(parents=True, exist_ok=True)

# ---------------------------------------------------------------------------------
# The data: grey images of clothes, 28 x 28, ten classes.

train, test, source = load()
if arguments.short:
    EPOCHS, MIN_STEPS = 8, 0
    train = type(train)(*(array[::10] for array in train))
    test = type(test)(*(array[::10] for array in test))
print(f"Fashion-MNIST: {len(train.images):,} training images and", end=" ")
print(f"{len(test.images):,} test images from {source}")

steps_per_epoch = math.ceil(len(train.images) / BATCH)
epochs = max(EPOCHS, math.ceil(MIN_STEPS / steps_per_epoch))

# ---------------------------------------------------------------------------------
# The net. To prune a layer, put PDPWrapper around it where the model is defined. (A
# model that is already there is wrapped by keras_pdp.wrap(model).) The wrapped layer
# computes with a masked kernel; everything else about it stays as it was.


def network(prunable=lambda layer: layer):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            prunable(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            prunable(layers.Conv2D(32, 3, padding="same", use_bias=False)),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            prunable(layers.Conv2D(64, 3, padding="same", use_bias=False)),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            prunable(layers.Dense(128, activation="relu")),
            prunable(layers.Dense(10, activation="softmax")),
        ]
    )


# ---------------------------------------------------------------------------------
# The training. Only two things differ between the two nets: the wrapper above, and
# the callback that raises the sparsity from 0 to its target and then freezes the masks.
# The sparsity rises between 10 % and 50 % of the run, and the masks harden with it; at
# 70 % they are frozen. The weights that stay make up for those that went, while there
# is a learning rate to do so.


def fit(model, callbacks=()):
    steps = epochs * steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(
        keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(*train, batch_size=BATCH, epochs=epochs, callbacks=list(callbacks))


print("\nDense")
keras.utils.set_random_seed(SEED)  # the same weights and the same order of images
dense = network()
fit(dense)

print(f"\nPruned to {SPARSITY:.0%}")
keras.utils.set_random_seed(SEED)
pruned = network(PDPWrapper)
fit(pruned, [PDPCallback(SPARSITY)])

# strip() gives the plain Keras model: the layers that went into the wrappers, with
# exact zeros in their kernels. Nothing of keras_pdp is needed to load or to run it.

pruned = strip(pruned)
pruned.save(arguments.out / "pruned.keras")
print(f"\n{sparsity_report(pruned)}")

# ---------------------------------------------------------------------------------
# The files. to_tflite loads what it has written, runs it, compares it with the Keras
# model, counts its zeros and times it on one thread.

images = test.images.astype("float32")
calibration = train.images[:: len(train.images) // CALIBRATION_IMAGES]
calibration = calibration.astype("float32")


def accuracy(path):
    """The share of the test images that the file gets right, one image at a time."""
    interpreter = Interpreter(str(path), num_threads=1)
    classify = interpreter.get_signature_runner()
    (given,), (answer,) = (
        classify.get_input_details(),
        classify.get_output_details(),
    )
    right = 0
    for image, label in zip(images, test.labels, strict=True):
        scores = classify(**{given: image[None]})[answer][0]
        right += scores.argmax() == label
    return right / len(images)


rows = []
for name, model in {"dense": dense, "pruned": pruned}.items():
    for precision, quantize in {"float32": None, "int8": "int8"}.items():
        path = arguments.out / f"{name}_{precision}.tflite"
        file = to_tflite(
            model,
            path,
            quantize=quantize,
            representative_data=calibration,
            latency=True,
        )
        rows.append(
            f"{name:<8}{precision:<8}{accuracy(path):>9.2%}{file.sparsity:>10.2%}"
            f"{file.raw_bytes:>10,}{file.gzip_bytes:>10,}"
            f"{file.latency.exported_ms:>12.3f}"
        )

print(f"\n{len(images):,} test images, {epochs} epochs, seed {SEED}. Data: {source}")
print("model   weights  accuracy  sparsity     bytes   gzipped  latency ms")
print("\n".join(rows))
