"""The names of resources: made here, and taken apart here. Needs no torch.

A latency is named after the table that predicts it: ``latency@pi5``. A quantile of the calls
in the loop of the table is ``latency@pi5:p99``. What is counted on the exported file is named
after its number format, unless that is fp32: ``bytes``, ``ram:int8``.
"""

import re

FLOPS = "FLOPs"

PARAMETERS = "params"

OPERATORS = "operators"
"""The resource of which every gate costs 1; it has a budget in a search with ``single``."""

LATENCY = "latency"
"""The kind of all resources that a latency table predicts."""

BYTES = "bytes"
"""The kind of the sizes of an exported ONNX file."""

RAM = "ram"
"""The kind of the peak activation memories of an exported ONNX file."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""Number formats of models."""


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


def name_of_file(kind: str, precision: str) -> str:
    """Name what is counted on a file: ``bytes`` of one in fp32, ``bytes:int8``."""
    return kind if precision == PRECISIONS[0] else f"{kind}:{precision}"


def read_kind(resource: str) -> str:
    """The kind of a resource: ``latency`` of ``latency@pi5``, ``ram`` of ``ram:int8``."""
    return LATENCY if is_latency(resource) else resource.partition(":")[0]


def read_precision(resource: str) -> str | None:
    """Number format of the file that a resource is counted on; None of another resource."""
    kind, _, precision = resource.partition(":")
    return (precision or PRECISIONS[0]) if kind in (BYTES, RAM) else None
