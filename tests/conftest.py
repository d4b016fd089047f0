"""Every test starts from the same random state and a clean session."""

import keras
import pytest


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(7)
    yield
    keras.utils.clear_session()
