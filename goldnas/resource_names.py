"""The names of resources: made here, and taken apart here. Needs no torch.

What a table predicts is named after the table: ``latency@pi5``, ``energy@pi5_energy``. A
quantile of the calls in the loop of a table is ``latency@pi5:p99``. What is counted on the
exported file is named after its number format, unless that is fp32: ``bytes``, ``ram:int8``.
"""

import re

FLOPS = "FLOPs"

PARAMETERS = "params"

OPERATORS = "operators"
"""The resource of which every gate costs 1; it has a budget in a search with ``single``."""

LATENCY = "latency"
"""The kind of all resources that a table of times predicts, and of the table."""

ENERGY = "energy"
"""The kind of all resources that a table of energies predicts, and of the table."""

BYTES = "bytes"
"""The kind of the sizes of an exported ONNX file."""

RAM = "ram"
"""The kind of the peak activation memories of an exported ONNX file."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""Number formats of models."""


def name_latency(table: str, quantile: str = "") -> str:
    """Name the latency that a table predicts: ``latency@pi5``, or ``latency@pi5:p99``."""
    return f"{LATENCY}@{table}:{quantile}" if quantile else f"{LATENCY}@{table}"


def name_energy(table: str) -> str:
    """Name the energy that a table predicts: ``energy@pi5_energy``."""
    return f"{ENERGY}@{table}"


def is_latency(resource: str) -> bool:
    """Whether a resource is a latency."""
    return resource.startswith(f"{LATENCY}@")


def is_energy(resource: str) -> bool:
    """Whether a resource is an energy."""
    return resource.startswith(f"{ENERGY}@")


def read_table(resource: str) -> str | None:
    """Name of the table that predicts a resource; None if no table does."""
    kind, at, table = resource.partition("@")
    if not at or kind not in (LATENCY, ENERGY):
        return None
    return re.sub(":p[0-9]{2}$", "", table) if kind == LATENCY else table


def name_of_file(kind: str, precision: str) -> str:
    """Name what is counted on a file: ``bytes`` of one in fp32, ``bytes:int8``."""
    return kind if precision == PRECISIONS[0] else f"{kind}:{precision}"


def read_kind(resource: str) -> str:
    """The kind of a resource: ``latency`` of ``latency@pi5``, ``ram`` of ``ram:int8``."""
    return resource.partition(":" if read_table(resource) is None else "@")[0]


def read_precision(resource: str) -> str | None:
    """Number format of the file that a resource is counted on; None of another resource."""
    kind, _, precision = resource.partition(":")
    return (precision or PRECISIONS[0]) if kind in (BYTES, RAM) else None
