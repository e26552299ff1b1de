"""The names of resources: made here, and taken apart here. Needs no torch.

A latency is named after the table that predicts it: ``latency@pi5``. A quantile of the calls
in the loop of the table is ``latency@pi5:p99``.
"""

import re

FLOPS = "FLOPs"

PARAMETERS = "params"

OPERATORS = "operators"
"""The resource of which every gate costs 1; it has a budget in a search with ``single``."""

LATENCY = "latency"
"""The kind of all resources that a latency table predicts."""


def name_latency(table: str, quantile: str = "") -> str:
    """Name the latency that a table predicts: ``latency@pi5``, or ``latency@pi5:p99``."""
    return f"{LATENCY}@{table}:{quantile}" if quantile else f"{LATENCY}@{table}"


def is_latency(resource: str) -> bool:
    """Whether a resource is a latency."""
    return resource.startswith(f"{LATENCY}@")


def read_table(resource: str) -> str | None:
    """Name of the table that predicts a latency; None of another resource."""
    if not is_latency(resource):
        return None
    return re.sub(":p[0-9]{2}$", "", resource.removeprefix(f"{LATENCY}@"))
