"""The processes of one command, where torchrun started it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from goldnas.cli.console import out

if TYPE_CHECKING:
    from goldnas.training.distributed import Ranks


@contextmanager
def joined() -> Iterator["Ranks"]:
    """The processes of this command; the first of them speaks."""
    from goldnas.training import distributed

    with distributed.init_process_group() as all_ranks:
        out.quiet = not all_ranks.first
        yield all_ranks
