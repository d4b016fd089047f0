"""Where the runtime's kernels for block-sparse Dense layers are right, and pay.

FULLY_CONNECTED has kernels that skip blocks of zeros in the rows of `(out, in)`: 1×4 in
float32 and 1×16 in int8. They are no part of XNNPACK, so what they save has to make up
for XNNPACK's faster dense kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_pdp.deployment.sparse_encoding import Array


@dataclass(frozen=True)
class BlockKernel:
    """When a kernel is used.

    Args:
        width: neighbours in a row that are stored or left out together.
        least_sparsity: the fraction of blocks that must be zero.
        least_size: the number of values that the weight must have, zeros included.
    """

    width: int
    least_sparsity: float
    least_size: int

    def pays(self, weight: Array) -> bool:
        """Whether a weight `(out, in)` is faster with this kernel than without.

        Rows that do not fill whole blocks never are: the kernel would leave out their
        ends.
        """
        if weight.size < self.least_size or weight.shape[-1] % self.width:
            return False
        blocks = weight.reshape(-1, self.width)
        return float(np.mean(~np.any(blocks, axis=1))) >= self.least_sparsity


BlockKernels = Mapping[str, BlockKernel]
BLOCK_KERNELS: BlockKernels = {"float32": BlockKernel(4, 0.9, 1 << 18)}
