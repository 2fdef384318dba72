"""Property tests try the same examples in every run, so that a change fails or passes by itself.

HYPOTHESIS_PROFILE=explore make test    # look for new examples
"""

import os
import signal

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# What a shell starts in the background ignores it, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
