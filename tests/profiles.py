"""How many cases hypothesis draws for each property.

100 as a rule; by night, or before a release, as many as the environment says:

    KERAS_PDP_EXAMPLES=10000 pytest -n 2 tests -m hypothesis
"""

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("KERAS_PDP_EXAMPLES", "100"))

# No deadline: what compiles in its first case takes longer than in the others.
settings.register_profile("keras_pdp", max_examples=EXAMPLES, deadline=None)
settings.load_profile("keras_pdp")
