"""Take half of the multiplications out of a trained net, and see what that is worth.

    python tutorials/03_channels_to_edge.py            the whole run
    python tutorials/03_channels_to_edge.py --short    every step, no good numbers

The net is the reference of MLPerf Tiny's image classification, ResNet-8 on CIFAR-10,
trained by others: mlperf_tiny_resnet8_cifar10.keras in the folder that
KERAS_PDP_MODELS names, by default ../shared/data/models. Where it is not there, we
train our own first. Whole channels are pruned while it is fine-tuned, then removed;
the smaller net is exported as float32 and as int8 beside the original. Every number of
the table at the end is measured on these four files.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from cifar10 import load
from resnet8 import resnet8

from keras_pdp import (
    Calibrated,
    Channel,
    Linear,
    PDPCallback,
    macs,
    shrink,
    shrink_report,
    strip,
    to_tflite,
    wrap,
)

REMOVED = 0.5  # of the multiply-accumulates
EPOCHS_PRUNING = 2  # while channels close
EPOCHS = 18  # of fine-tuning what is left
EPOCHS_DENSE = 8  # of our own net, where the reference is not there
RAMP = Linear(0.0, 0.8)  # when channels close, and
FREEZE_AT = 0.9  # when the choice is final: fractions of the pruning
BATCH = 128
LEARNING_RATE = 2e-3  # Adam; in the fine-tuning it falls to zero along a cosine
SHIFT = 4  # pixels by which training images are moved, at most
CALIBRATION_IMAGES = 200  # from which the int8 export takes its ranges
SEED = 0

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--short", action="store_true", help="a hundredth of the data")
parser.add_argument("--out", type=Path, default=Path("out/channels_to_edge"))
arguments = parser.parse_args()
arguments.out.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(SEED)

# ---------------------------------------------------------------------------------
# The data: colour photographs, 32 x 32, ten classes. A tenth of the training images
# is kept for validation: whoever chooses a learning rate or a schedule looks at these.
# The test images are for the table at the end, and for nothing before it.

data = load()
train, validation, test = data.train, data.validation, data.test
if arguments.short:
    EPOCHS_PRUNING, EPOCHS, EPOCHS_DENSE = 2, 1, 1
    train, validation, test = (
        type(split)(*(array[::step] for array in split))
        for split, step in ((train, 9), (validation, 9), (test, 25))
    )
print(
    f"{len(train.labels):,} training, {len(validation.labels):,} validation and",
    end=" ",
)
print(f"{len(test.labels):,} test images: {data.source}")


class Augmented(keras.utils.PyDataset):
    """The training images in a new order in each epoch, flipped and shifted at random.

    Without that, a net that has seen the images often learns them by heart while it is
    fine-tuned. With a teacher, half of what is to be learned is the teacher's answer:
    it says more about an image than its class, which in a short training counts.
    """

    def __init__(self, teacher=None):
        super().__init__()
        self.teacher = teacher
        self.random = np.random.default_rng(SEED)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(train.labels) // BATCH)

    def on_epoch_end(self):
        self.order = self.random.permutation(len(train.labels))

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        border = [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)]
        padded = np.pad(train.images[chosen], border)
        down, right = self.random.integers(0, 2 * SHIFT + 1, (2, len(chosen)))
        images = np.stack(
            [
                image[y : y + 32, x : x + 32]
                for image, y, x in zip(padded, down, right, strict=True)
            ]
        )
        flipped = self.random.random(len(chosen)) < 0.5
        images[flipped] = images[flipped, :, ::-1]
        answers = one_hot(train.labels[chosen])
        if self.teacher is not None:
            answers = 0.5 * answers + 0.5 * self.teacher.predict_on_batch(images)
        return images, answers


def one_hot(labels):
    return np.eye(10, dtype="float32")[labels]


def falling(epochs):
    """A learning rate that goes to zero."""
    steps = epochs * -(-len(train.labels) // BATCH)
    return keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)


def fit(model, epochs, rate, teacher=None, callbacks=()):
    """Trains; gives the seconds it took."""
    batches = Augmented(teacher)
    model.compile(
        keras.optimizers.Adam(rate),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    model.fit(
        batches,
        epochs=epochs,
        validation_data=(validation.images, one_hot(validation.labels)),
        callbacks=list(callbacks),
        verbose=2,
    )
    return time.perf_counter() - start


# ---------------------------------------------------------------------------------
# The net: 9 convolutions in three residual blocks.

folder = Path(
    os.environ.get("KERAS_PDP_MODELS", Path(__file__).parents[2] / "shared/data/models")
)
reference = folder / "mlperf_tiny_resnet8_cifar10.keras"
if data.real and reference.exists():
    print(f"\nThe reference of MLPerf Tiny, {reference}")
    original = keras.models.load_model(reference, compile=False)
else:
    print("\nThe reference is not there (or is not for these images): training our own")
    original = resnet8()
    fit(original, EPOCHS_DENSE, falling(EPOCHS_DENSE))

# ---------------------------------------------------------------------------------
# The pruning. wrap() puts every convolution into a wrapper, and the normalisations
# behind them too: a channel is a column of a kernel with its bias and with what the
# normalisation adds to it, and only when all of that is silent is it gone. Where two
# branches meet in a sum, a channel of the sum is made by both; they close together.
#
# The budget is counted in multiply-accumulates, so that channels of the early layers,
# which run over large images, are worth more than the same number of late ones.

# A temperature lower than the default's makes the gates almost hard: the normalisations
# behind them then gather the statistics of the net that is left.

wrapped = wrap(original, Channel(), temperature=Calibrated(50.0))
pruning = PDPCallback(REMOVED, cost=macs, schedule=RAMP, freeze_at=FREEZE_AT, verbose=1)
print(f"\nPruning, {REMOVED:.0%} of the multiply-accumulates go")
seconds = fit(wrapped, EPOCHS_PRUNING, LEARNING_RATE, original, [pruning])

# ---------------------------------------------------------------------------------
# strip() gives the plain model with its zeros; shrink() takes the zeros out, channel by
# channel. The outputs stay what they were.

stripped = strip(wrapped)
small = shrink(stripped)
report = shrink_report(stripped)
print(f"\n{report}")
images = validation.images[:100]
difference = np.abs(
    small.predict(images, verbose=0) - stripped.predict(images, verbose=0)
).max()
print(f"largest difference of an output: {difference:.1e}")

# ---------------------------------------------------------------------------------
# Fine-tuning. The smaller net is a plain Keras model: its steps take half the time, and
# the original, which has seen every image, teaches it what it knows.

print("\nFine-tuning what is left")
seconds += fit(small, EPOCHS, falling(EPOCHS), original)
small.save(arguments.out / "small.keras")

# ---------------------------------------------------------------------------------
# The files.

calibration = train.images[:: max(len(train.images) // CALIBRATION_IMAGES, 1)]


def accuracy(path):
    """The share of the test images that the file gets right, one image at a time."""
    classify = Interpreter(str(path), num_threads=1).get_signature_runner()
    (given,), (answer,) = (
        classify.get_input_details(),
        classify.get_output_details(),
    )
    right = 0
    for image, label in zip(test.images, test.labels, strict=True):
        right += classify(**{given: image[None]})[answer][0].argmax() == label
    return right / len(test.labels)


rows = []
counts = {"original": report.macs.before, "half": report.macs.after}
for name, model in {"original": original, "half": small}.items():
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
            f"{name:<10}{precision:<8}{accuracy(path):>9.2%}{counts[name]:>12,}"
            f"{model.count_params():>12,}{file.raw_bytes:>10,}{file.gzip_bytes:>10,}"
            f"{file.latency.exported_ms:>12.3f}"
        )

print(
    f"\n{len(test.labels):,} test images, {EPOCHS_PRUNING} + {EPOCHS} epochs in",
    end=" ",
)
print(f"{seconds / 60:.1f} minutes, seed {SEED}. Data: {data.source}")
print(
    "model     stored  accuracy        MACs     weights     bytes   gzipped  latency ms"
)
print("\n".join(rows))
