"""Property tests try the same examples in every run, so that a change fails or passes by itself.

HYPOTHESIS_PROFILE=explore make test    # look for new examples
"""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
