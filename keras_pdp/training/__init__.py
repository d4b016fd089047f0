"""Keras: which weights are pruned, the wrapper, the model surgery, the callback."""
