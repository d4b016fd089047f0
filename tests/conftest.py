"""Every test starts from the same random state.

Sessions are not cleared: it costs more than most tests, and none relies on names that
Keras counts up.
"""

import keras
import pytest


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(7)
