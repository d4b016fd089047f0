"""Every test starts from the same random state.

Sessions are not cleared: it costs more than most tests, and none relies on names that
Keras counts up.
"""

import keras
import pytest

from tests import profiles  # noqa: F401  (how many cases hypothesis draws)


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(7)
