"""Pure functions leave no session behind, and clearing one costs more than a test."""

import keras
import pytest


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(7)
