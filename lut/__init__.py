"""Latency tables: what one device takes for each operator at each site. Needs no torch."""

from goldnas.lut.table import (
    SCHEMA_VERSION,
    Conditions,
    Failed,
    LatencyTable,
    Measured,
    MeasuringProtocol,
    Row,
)

__all__ = [
    "SCHEMA_VERSION",
    "Conditions",
    "Failed",
    "LatencyTable",
    "Measured",
    "MeasuringProtocol",
    "Row",
]
