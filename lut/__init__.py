"""Latency tables: what one device takes for each operator at each site. Needs no torch."""

from goldnas.lut.keys import format_row_key, parse_row_key
from goldnas.lut.loop import QUANTILES, Loop
from goldnas.lut.reading import MalformedTableError, OldTableError
from goldnas.lut.schema import (
    SCHEMA_VERSION,
    Accuracy,
    Calibration,
    CallQuantile,
    Campaign,
    Conditions,
    Failed,
    Gpu,
    Interpolated,
    LoopFit,
    LoopNetwork,
    Measured,
    MeasuringProtocol,
    ModelTiming,
    NetworkLatency,
    QuantileFit,
    Row,
    compute_checksum,
)
from goldnas.lut.table import LatencyTable

__all__ = [
    "QUANTILES",
    "SCHEMA_VERSION",
    "Accuracy",
    "Calibration",
    "CallQuantile",
    "Campaign",
    "Conditions",
    "Failed",
    "Gpu",
    "Interpolated",
    "LatencyTable",
    "Loop",
    "LoopFit",
    "LoopNetwork",
    "MalformedTableError",
    "Measured",
    "MeasuringProtocol",
    "ModelTiming",
    "NetworkLatency",
    "OldTableError",
    "QuantileFit",
    "Row",
    "compute_checksum",
    "format_row_key",
    "parse_row_key",
]
