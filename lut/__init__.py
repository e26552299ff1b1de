"""Latency tables: what one device takes for each operator at each site. Needs no torch."""

from goldnas.lut.schema import (
    SCHEMA_VERSION,
    Accuracy,
    Calibration,
    Campaign,
    Conditions,
    Failed,
    Gpu,
    Interpolated,
    Measured,
    MeasuringProtocol,
    ModelTiming,
    NetworkLatency,
    Row,
    checksum_of,
    row_key,
)
from goldnas.lut.table import LatencyTable, MalformedTableError

__all__ = [
    "SCHEMA_VERSION",
    "Accuracy",
    "Calibration",
    "Campaign",
    "Conditions",
    "Failed",
    "Gpu",
    "Interpolated",
    "LatencyTable",
    "MalformedTableError",
    "Measured",
    "MeasuringProtocol",
    "ModelTiming",
    "NetworkLatency",
    "Row",
    "checksum_of",
    "row_key",
]
