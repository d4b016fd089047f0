"""Take half of the multiplications out of a trained net, and see what that is worth.

    python tutorials/03_channels_to_edge.py            the whole run
    python tutorials/03_channels_to_edge.py --choose   without a tenth of the images,
                                                       on which it is then measured
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
# oneDNN's convolutions, which TensorFlow leaves out on some processors: half the time.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from cifar10 import load
from keras import ops
from quick_normalization import quick
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
EPOCHS_PRUNING = 1  # while channels close
EPOCHS = 32  # of fine-tuning what is left,
STILL = 5  # of them, at the end, with images that are not shifted
EPOCHS_DENSE = 8  # of our own net, where the reference is not there
RAMP = Linear(0.0, 0.8)  # when channels close, and
FREEZE_AT = 0.9  # when the choice is final: fractions of the pruning
BATCH = 128
REACH = 2  # pixels, by which images are shifted
RATE_PRUNING = 1e-3  # of Adam
LEARNING_RATE = 2e-3  # of Adam in the fine-tuning: rises at first, falls to zero
TEMPERATURE = 4.0  # at which the smaller net learns from the original, and
LABELS = 0.1  # the part that the labels have in what it learns
CALIBRATION_IMAGES = 200  # from which the int8 export takes its ranges
SEED = 0

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--short", action="store_true", help="a ninth of the data")
parser.add_argument("--choose", action="store_true", help="hold back a tenth")
parser.add_argument("--out", type=Path, default=Path("out/channels_to_edge"))
arguments = parser.parse_args()
arguments.out.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(SEED)

# ---------------------------------------------------------------------------------
# The data: colour photographs, 32 x 32, ten classes. Whoever chooses a learning rate or
# a schedule holds a tenth of the training images back and looks at these (--choose).
# They tell which of two recipes is better, and flatter both: the reference was trained
# on them. With the recipe chosen, a net learns from all of them. The test images are
# for the table at the end, and for nothing before it.

data = load()
train, validation, test = data.train, data.validation, data.test
if not arguments.choose:
    both = zip(train, validation, strict=True)
    train = type(train)(*(np.concatenate(arrays) for arrays in both))
if arguments.short:
    EPOCHS, STILL, EPOCHS_DENSE = 2, 1, 1
    train, validation, test = (
        type(split)(*(array[::step] for array in split))
        for split, step in ((train, 9), (validation, 9), (test, 25))
    )
held = f", {len(validation.labels):,} for choosing" if arguments.choose else ""
print(f"{len(train.labels):,} images for training{held},", end=" ")
print(f"{len(test.labels):,} for testing: {data.source}")


def one_hot(labels):
    return np.eye(10, dtype="float32")[labels]


def shifted(images, rows, columns):
    """Images with what is so many pixels further down and right; edges are repeated.

    The reference was trained with such images (mlcommons/tiny, train.py of its image
    classification). Shifted with a black edge they are strange to it, and what it says
    of them is less worth learning.
    """
    padded = np.pad(images, [(0, 0), (REACH, REACH), (REACH, REACH), (0, 0)], "edge")
    each = np.arange(len(images))[:, None, None]
    across = np.arange(32) + REACH
    return padded[
        each,
        (np.reshape(rows, (-1, 1)) + across)[:, :, None],
        (np.reshape(columns, (-1, 1)) + across)[:, None, :],
    ]


class Varied(keras.utils.PyDataset):
    """The training images in a new order in each epoch, shifted, and half mirrored.

    Args:
        told: What a teacher says of each image, to stand behind its label.
        shifting: The number of epochs with shifted images. Those after them are near to
            what the net will see in use.
    """

    def __init__(self, told=None, shifting=EPOCHS):
        super().__init__()
        self.answers = one_hot(train.labels)
        self.taught = told is not None
        if self.taught:
            self.answers = np.concatenate([self.answers, told], axis=1)
        self.random = np.random.default_rng(SEED)
        self.shifting = shifting + 1  # the order of the first epoch ends no epoch
        self.on_epoch_end()

    def __len__(self):
        return -(-len(train.labels) // BATCH)

    def on_epoch_end(self):
        self.shifting -= 1
        self.order = self.random.permutation(len(train.labels))

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        reach = REACH if self.shifting > 0 else 0
        by = self.random.integers(-reach, reach + 1, (2, len(chosen)))
        images = shifted(train.images[chosen], *by)
        flipped = self.random.random(len(chosen)) < 0.5
        images[flipped] = images[flipped, :, ::-1]
        return images, self.answers[chosen]


def asked(teacher, images):
    """What the teacher says of the images, as probabilities: the mean of ten looks.

    An image as it is, shifted by a pixel in four directions, and the mirror images of
    these five. The teacher is asked once, before the training.
    """
    looks = []
    for by in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
        seen = shifted(images, *by)
        for view in (seen, seen[:, :, ::-1]):
            said = teacher.predict(view, 500, verbose=0)
            looks.append(np.log(np.clip(said, 1e-7, 1.0)))
    return ops.convert_to_numpy(keras.activations.softmax(np.mean(looks, axis=0)))


def distilled(answers, output):
    """A little of the label, and much of what the teacher says (Hinton et al. 2015).

    Which wrong classes an image resembles says more about it than its class alone. At
    a temperature T the logits are divided by T, which makes these resemblances heard.
    """
    labels, teacher = ops.split(answers, 2, axis=1)
    teacher, student = (ops.log(ops.clip(p, 1e-7, 1)) for p in (teacher, output))
    soft = ops.softmax(teacher / TEMPERATURE)
    told = -ops.sum(soft * ops.log_softmax(student / TEMPERATURE), axis=1)
    known = keras.losses.categorical_crossentropy(labels, output)
    return LABELS * known + (1 - LABELS) * TEMPERATURE**2 * told


def accuracy(answers, output):
    return keras.metrics.categorical_accuracy(answers[:, :10], output)


def falling(epochs):
    """A learning rate that rises for a tenth of the run, then falls along a cosine."""
    steps = epochs * -(-len(train.labels) // BATCH)
    rising = steps // 10
    return keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10,
        steps - rising,
        warmup_target=LEARNING_RATE,
        warmup_steps=rising,
    )


def fit(model, batches, epochs, rate, callbacks=()):
    labels = one_hot(validation.labels)
    loss = "categorical_crossentropy"
    if batches.taught:
        loss = distilled
        labels = np.concatenate([labels, labels], axis=1)  # they speak for the teacher
    model.compile(keras.optimizers.Adam(rate), loss, metrics=[accuracy])
    model.fit(
        batches,
        epochs=epochs,
        validation_data=(validation.images, labels) if arguments.choose else None,
        callbacks=list(callbacks),
        verbose=2,
    )


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
    fit(original, Varied(), EPOCHS_DENSE, falling(EPOCHS_DENSE))

# ---------------------------------------------------------------------------------
# The pruning. wrap() puts every convolution into a wrapper, and the normalisations
# behind them too: a channel is a column of a kernel with its bias and with what the
# normalisation adds to it, and only when all of that is silent is it gone. Where two
# branches meet in a sum, a channel of the sum is made by both; they close together.
#
# The budget is counted in multiply-accumulates: channels go first that are worth little
# for what they cost, here half of the first block and next to nothing of the last.
#
# Widths are kept at multiples of 8: libraries compute channels in blocks of 8 or 16
# and fill up what is missing. The fine-tuning's steps are shorter for it too.
#
# The gates are almost hard from the start, where by default they harden along the ramp:
# the normalisations behind them then gather the statistics of the net that is left.

wrapped = wrap(original, Channel(round_to=8), temperature=Calibrated(50.0))
pruning = PDPCallback(
    REMOVED,
    cost=macs,
    schedule=RAMP,
    freeze_at=FREEZE_AT,
    harden=1.0,  # masks of kappa = 50 are hard from the start
    verbose=1,
)
print(f"\nPruning, {REMOVED:.0%} of the multiply-accumulates go")
start = time.perf_counter()
told = asked(original, train.images)
fit(wrapped, Varied(told), EPOCHS_PRUNING, RATE_PRUNING, [pruning])

# ---------------------------------------------------------------------------------
# strip() gives the plain model with its zeros; shrink() takes the zeros out, channel by
# channel. The outputs stay what they were.

stripped = strip(wrapped)
small = shrink(stripped)
report = shrink_report(stripped)
print(f"\n{report}")
images = train.images[:100]
difference = np.abs(
    small.predict(images, verbose=0) - stripped.predict(images, verbose=0)
).max()
print(f"largest difference of an output: {difference:.1e}")

# ---------------------------------------------------------------------------------
# Fine-tuning. The smaller net is a plain Keras model: its steps take half the time, and
# the original, which has seen every image, teaches it what it knows.

print("\nFine-tuning what is left")
pruned = time.perf_counter()
trained = quick(small)
fit(trained, Varied(told, EPOCHS - STILL), EPOCHS, falling(EPOCHS))
small.set_weights(trained.get_weights())
done = time.perf_counter()
small.compile(metrics=["accuracy"])  # the loss is ours, and no part of the model
small.save(arguments.out / "small.keras")

# ---------------------------------------------------------------------------------
# The files.

calibration = train.images[:: max(len(train.images) // CALIBRATION_IMAGES, 1)]


def measured(path):
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
            f"{name:<10}{precision:<8}{measured(path):>9.2%}{counts[name]:>12,}"
            f"{model.count_params():>12,}{file.raw_bytes:>10,}{file.gzip_bytes:>10,}"
            f"{file.latency.exported_ms:>12.3f}"
        )

print(
    f"\n{len(test.labels):,} test images, {EPOCHS_PRUNING} + {EPOCHS} epochs in",
    end=" ",
)
print(f"{(pruned - start) / 60:.1f} + {(done - pruned) / 60:.1f} minutes", end=", ")
print(f"seed {SEED}. Data: {data.source}")
print(
    "model     stored  accuracy        MACs     weights     bytes   gzipped  latency ms"
)
print("\n".join(rows))
