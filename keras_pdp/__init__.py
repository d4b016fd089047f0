"""Parameter-free differentiable pruning (PDP) for Keras 3."""

from keras_pdp.deployment.inspection import (
    sparse_inference_report as sparse_inference_report,
)
from keras_pdp.deployment.preparation import Preparation as Preparation
from keras_pdp.deployment.prepare import (
    prepare_for_sparse_inference as prepare_for_sparse_inference,
)
from keras_pdp.deployment.prepare import prepare_with_report as prepare_with_report
from keras_pdp.deployment.shrink import shrink as shrink
from keras_pdp.deployment.shrink import shrink_report as shrink_report
from keras_pdp.deployment.shrink import shrink_with_report as shrink_with_report
from keras_pdp.deployment.shrink_report import ShrinkReport as ShrinkReport
from keras_pdp.deployment.sparse_inference import (
    SparseInferenceReport as SparseInferenceReport,
)
from keras_pdp.deployment.tflite import ExportError as ExportError
from keras_pdp.deployment.tflite import TFLiteReport as TFLiteReport
from keras_pdp.deployment.tflite import to_tflite as to_tflite
from keras_pdp.report.sparsity import SparsityReport as SparsityReport
from keras_pdp.report.sparsity import sparsity_report as sparsity_report
from keras_pdp.sparsity.allocation import erdos_renyi as erdos_renyi
from keras_pdp.sparsity.allocation import global_magnitude as global_magnitude
from keras_pdp.sparsity.allocation import uniform as uniform
from keras_pdp.sparsity.granularity import Block as Block
from keras_pdp.sparsity.granularity import Channel as Channel
from keras_pdp.sparsity.granularity import NofM as NofM
from keras_pdp.sparsity.granularity import Unstructured as Unstructured
from keras_pdp.sparsity.layer_adaptive import lamp as lamp
from keras_pdp.sparsity.schedule import Constant as Constant
from keras_pdp.sparsity.schedule import Epochs as Epochs
from keras_pdp.sparsity.schedule import Exponential as Exponential
from keras_pdp.sparsity.schedule import Linear as Linear
from keras_pdp.sparsity.schedule import PerEpoch as PerEpoch
from keras_pdp.sparsity.schedule import Polynomial as Polynomial
from keras_pdp.sparsity.schedule import Position as Position
from keras_pdp.sparsity.schedule import Steps as Steps
from keras_pdp.sparsity.temperature import Absolute as Absolute
from keras_pdp.sparsity.temperature import Calibrated as Calibrated
from keras_pdp.training.backup import Backup as Backup
from keras_pdp.training.callback import PDPCallback as PDPCallback
from keras_pdp.training.cost import macs as macs
from keras_pdp.training.cost import parameters as parameters
from keras_pdp.training.prunable import register_prunable as register_prunable
from keras_pdp.training.surgery import pruned_layers as pruned_layers
from keras_pdp.training.surgery import strip as strip
from keras_pdp.training.surgery import wrap as wrap
from keras_pdp.training.transfer import load_plain_weights as load_plain_weights
from keras_pdp.training.wrapper import PDPWrapper as PDPWrapper

__version__ = "0.1.0"
