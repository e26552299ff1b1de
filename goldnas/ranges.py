"""Ranges of the numbers, and forms of the names, in files that outlive the program.

A file that is read is checked against them: it may be damaged, or made by hand. So no other
code meets a number that no search and no training can reach. The ranges are far wider than any
real number.
"""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from goldnas.resource_names import (
    FLOPS,
    OPERATORS,
    PARAMETERS,
    PRECISIONS,
    read_precision,
    read_table,
)

MOST_PROCESSES = 1024
"""Threads, or loading processes. Of many more the system refuses some, which PyTorch does not
survive."""

Count = Annotated[int, Meta(ge=0, le=10**12)]
"""Of steps, epochs, images, bytes in steps."""

Bytes = Annotated[int, Meta(ge=0, le=10**18)]

Share = Annotated[float, Meta(ge=0, le=1)]
"""An accuracy, say."""

Amount = Annotated[float, Meta(ge=0, le=1e18)]
"""Of a resource, in FLOPs, parameters, microseconds, microjoules, operators or bytes."""

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A loss, a score, a metric: any that is finite, with room for sums."""

NotNegative = Annotated[float, Meta(ge=0, le=1e300)]
"""A learning rate, the weight of a penalty."""

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
"""That something lasted; thirty years."""

Time = Annotated[float, Meta(ge=0, le=1e11)]
"""Seconds since 1970."""

Name = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{1,64}\Z")]
"""Of a network: a fingerprint, which is a part of the names of files."""

Amounts = dict[str, Amount]
"""By resource."""


def check_resources(names: Iterable[str]) -> None:
    """Refuse names that are not names of resources; see ``resource_names.py``.

    Raises:
        ValueError: Naming the first.
    """
    for name in names:
        counted = name in (FLOPS, PARAMETERS, OPERATORS) or read_precision(name) in PRECISIONS
        if not counted and not read_table(name):
            raise ValueError(f"the resource {name!r}, which this goldnas does not know")
