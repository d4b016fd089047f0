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
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from cifar10 import load
from keras import ops
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
EPOCHS = 42  # of fine-tuning what is left
EPOCHS_DENSE = 8  # of our own net, where the reference is not there
RAMP = Linear(0.0, 0.8)  # when channels close, and
FREEZE_AT = 0.9  # when the choice is final: fractions of the pruning
BATCH = 128
RATE_PRUNING = 1e-3  # of Adam
LEARNING_RATE = 4e-3  # of Adam in the fine-tuning: rises at first, falls to zero
VIEWS = 6  # of each training image, of which one is drawn in each epoch
SHIFT = 3  # pixels by which views differ, at most
TEMPERATURE = 4.0  # at which the smaller net learns from the original, and
LABELS = 0.1  # the part that the labels have in what it learns
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
# The reference was trained on them too, so they tell which of two recipes is better,
# and flatter both. The test images are for the table at the end, and for nothing before
# it.

data = load()
train, validation, test = data.train, data.validation, data.test
if arguments.short:
    EPOCHS, EPOCHS_DENSE = 1, 1
    train, validation, test = (
        type(split)(*(array[::step] for array in split))
        for split, step in ((train, 9), (validation, 9), (test, 25))
    )
print(
    f"{len(train.labels):,} training, {len(validation.labels):,} validation and",
    end=" ",
)
print(f"{len(test.labels):,} test images: {data.source}")


def one_hot(labels):
    return np.eye(10, dtype="float32")[labels]


class Views:
    """Images as they are, and the same ones shifted and mirrored at random.

    Each view is one choice for each image, made once: so a teacher can be asked what it
    sees in each of them, before the training.
    """

    def __init__(self, images, count):
        random = np.random.default_rng(SEED)
        self.images = np.pad(images, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)])
        self.offsets = random.integers(0, 2 * SHIFT + 1, (count, len(images), 2))
        self.mirrored = random.random((count, len(images))) < 0.5
        self.offsets[0], self.mirrored[0] = SHIFT, False

    def take(self, view, chosen):
        """Of each chosen image the view that goes with it."""
        windows = np.lib.stride_tricks.sliding_window_view(
            self.images, (32, 32), axis=(1, 2)
        )
        down, right = self.offsets[view, chosen].T
        images = np.moveaxis(windows[chosen, down, right], 1, -1)
        mirrored = self.mirrored[view, chosen][:, None, None, None]
        return np.where(mirrored, images[:, :, ::-1], images)


class Drawn(keras.utils.PyDataset):
    """The images in a new order in each epoch, each in a view drawn from its views."""

    def __init__(self, views, answers):
        super().__init__()
        self.views, self.answers = views, answers
        self.random = np.random.default_rng(SEED)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.views.images) // BATCH)

    def on_epoch_end(self):
        count, images = self.views.mirrored.shape
        self.order = self.random.permutation(images)
        self.drawn = self.random.integers(0, count, images)

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        view = self.drawn[chosen]
        answers = keras.tree.map_structure(lambda a: a[view, chosen], self.answers)
        return self.views.take(view, chosen), answers


def with_features(model):
    """The model, and what its last layer sees: the means of its last channels."""
    outputs = {"features": model.layers[-1].input, "classes": model.outputs[0]}
    return keras.Model(model.inputs, outputs)


def asked(teacher, views, labels):
    """The features and classes that it finds in each view, and the labels."""
    count, images = views.mirrored.shape
    teacher = with_features(teacher)
    found = {"features": [], "classes": []}
    for view in range(count):
        seen = views.take(np.full(images, view), np.arange(images))
        look = teacher.predict(seen, 500, verbose=0)
        found["features"].append(look["features"])
        found["classes"].append(np.concatenate([one_hot(labels), look["classes"]], 1))
    return {name: np.stack(each) for name, each in found.items()}


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


def fit(model, views, answers, checked, epochs, rate, loss, callbacks=()):
    metrics = {"classes": [accuracy]} if isinstance(answers, dict) else [accuracy]
    model.compile(keras.optimizers.Adam(rate), loss, metrics=metrics)
    model.fit(
        Drawn(views, answers),
        epochs=epochs,
        validation_data=(validation.images, checked),
        callbacks=list(callbacks),
        verbose=2,
    )


# ---------------------------------------------------------------------------------
# The net: 9 convolutions in three residual blocks.

views = Views(train.images, VIEWS)
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
    labels = np.stack([one_hot(train.labels)] * VIEWS)
    rate, loss = falling(EPOCHS_DENSE), "categorical_crossentropy"
    checked = one_hot(validation.labels)
    fit(original, views, labels, checked, EPOCHS_DENSE, rate, loss)

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
# A temperature lower than the default's makes the gates almost hard: the normalisations
# behind them then gather the statistics of the net that is left.

wrapped = wrap(original, Channel(round_to=8), temperature=Calibrated(50.0))
pruning = PDPCallback(
    REMOVED,
    cost=macs,
    schedule=RAMP,
    freeze_at=FREEZE_AT,
    verbose=1,
)
print(f"\nPruning, {REMOVED:.0%} of the multiply-accumulates go")
start = time.perf_counter()
taught = asked(original, views, train.labels)
checked = asked(original, Views(validation.images, 1), validation.labels)
checked = {name: each[0] for name, each in checked.items()}
classes = taught["classes"], checked["classes"]
fit(wrapped, views, *classes, EPOCHS_PRUNING, RATE_PRUNING, distilled, [pruning])

# ---------------------------------------------------------------------------------
# strip() gives the plain model with its zeros; shrink() takes the zeros out, channel by
# channel. The outputs stay what they were.

stripped = strip(wrapped)
small = shrink(stripped)
report = shrink_report(stripped)
print(f"\n{report}")
images = validation.images[:100]
difference = ops.max(ops.abs(small(images) - stripped(images)))
print(f"largest difference of an output: {difference:.1e}")

# ---------------------------------------------------------------------------------
# Fine-tuning. The smaller net is a plain Keras model: its steps take half the time, and
# the original, which has seen every image, teaches it what it knows: its answers, and
# the features that it finds them by.


class OneOperation(keras.layers.BatchNormalization):
    """The same, by TensorFlow's one operation for what Keras does in a dozen.

    A step takes a quarter less time on a CPU. Only for training: the net that ships has
    the layer that it had.
    """

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=False)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * now)
        return outputs


def quicker(layer):
    kind = type(layer)
    if kind is keras.layers.BatchNormalization:
        kind = OneOperation
    return kind.from_config(layer.get_config())


# Which of the original's features are left: shrinking has changed no output.
before, after = (with_features(m)(images)["features"] for m in (stripped, small))
differences = ops.max(ops.abs(before[:, :, None] - after[:, None, :]), axis=0)
left = ops.convert_to_numpy(ops.argmin(differences, axis=0))
for answers in (taught, checked):
    answers["features"] = answers["features"][..., left]
spread = checked["features"].var(axis=0).mean()


def resembling(features, found):
    """The squared difference from the original's features, as a part of their own."""
    return ops.mean(ops.square(found - features), axis=1) / spread


print("\nFine-tuning what is left")
student = keras.models.clone_model(small, clone_function=quicker)
student.set_weights(small.get_weights())
loss = {"classes": distilled, "features": resembling}
fit(with_features(student), views, taught, checked, EPOCHS, falling(EPOCHS), loss)
small.set_weights(student.get_weights())
minutes = (time.perf_counter() - start) / 60
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
print(f"{minutes:.1f} minutes, seed {SEED}. Data: {data.source}")
print(
    "model     stored  accuracy        MACs     weights     bytes   gzipped  latency ms"
)
print("\n".join(rows))
