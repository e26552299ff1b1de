"""How much is tried: a little in CI, all of it at night. CONTRIBUTING.md has the commands."""

import os

import pytest

EXAMPLES = int(os.environ.get("GOLDNAS_NIGHTLY", "0"))
"""Of each property; 0 in CI, which has a few that are always the same."""

at_night = pytest.mark.skipif(not EXAMPLES, reason="takes its time: at night")
"""Of what takes long, and of which CI tries a shorter form."""
