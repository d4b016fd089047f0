"""The mathematics of PDP: pure functions and frozen values on tensors.

Nothing here knows a layer or owns a variable.
"""
