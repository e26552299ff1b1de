"""Latency tables: what one device takes for each operator at each site. Needs no torch."""

from goldnas.lut.keys import format_row_key, parse_row_key
from goldnas.lut.reading import MalformedTableError, OldTableError
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
    compute_checksum,
)
from goldnas.lut.table import LatencyTable

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
    "OldTableError",
    "Row",
    "compute_checksum",
    "format_row_key",
    "parse_row_key",
]
