"""How much is tried: a little in CI, all of it at night. CONTRIBUTING.md has the command."""

import os

EXAMPLES = int(os.environ.get("GOLDNAS_NIGHTLY", "0"))
"""Of each property; 0 in CI, which has a few that are always the same."""
