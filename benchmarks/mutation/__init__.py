"""Whether the tests of `keras_pdp/sparsity` notice when a line of it is wrong."""
