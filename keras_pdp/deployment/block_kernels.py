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
        tolerance: how far outputs may be from those of the dense kernel, relative to
            their spread (see OutputAgreement): it adds in another order, or rounds
            another way.
    """

    width: int
    least_sparsity: float
    least_size: int
    tolerance: float

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

# From benchmarks/block_sparse.py: the first points where blocks won on every shape that
# is larger, warm and cold. Dense / blocks, warm (x86-64 with AVX-512, 2026-11-22,
# ai-edge-litert 2.3.0, two runs): float32 at 90 % 1.04 for 128×128, 1.2 for 256×256,
# 1.3-1.8 for 512×512, 1.4-1.8 for 1024×1024, 2.3-2.9 for 1024×4096, and at 85 % still
# 1.0; int8, against XNNPACK's int8, at 95 % 0.8-1.0 for 1024×1024 and 0.9 for
# 1024×4096, at 98 % 1.6 and 1.9, but 0.8 for 512×512. In float16 the kernel yields NaN.
# Outputs were apart by 7e-7 in float32; in int8 by one step, in one of 600 values.
BLOCK_KERNELS: BlockKernels = {
    "float32": BlockKernel(
        width=4, least_sparsity=0.9, least_size=1 << 16, tolerance=1e-5
    ),
    "int8": BlockKernel(
        width=16, least_sparsity=0.98, least_size=1 << 20, tolerance=1e-2
    ),
}
