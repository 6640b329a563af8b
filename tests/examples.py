"""How many examples Hypothesis tries: few while one develops, all in CI.

The profile is `ci` where the variable CI is set or `HYPOTHESIS_PROFILE` says so, else `dev`.
"""

from __future__ import annotations

import os

from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
# What Hypothesis itself tries.
EXAMPLES = 100
# One of so many is tried in development.
SHARE, FEWEST = 5, 10


def examples(count: int) -> int:
    """How many examples of so many are tried, for `@settings(max_examples=examples(200))`."""
    return count if PROFILE == "ci" else max(count // SHARE, min(count, FEWEST))


# Nothing asserts a time: other processes work beside the tests.
settings.register_profile("dev", max_examples=examples(EXAMPLES), deadline=None)
settings.register_profile("ci", max_examples=EXAMPLES, deadline=None)
settings.load_profile(PROFILE)
