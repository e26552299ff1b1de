"""Latency tables: what one device takes for each operator at each site. Needs no torch.

Time as a rule; a table can hold energies instead.
"""

from goldnas.lut.keys import format_row_key, parse_row_key
from goldnas.lut.loop import QUANTILES, Loop
from goldnas.lut.reading import MalformedTableError, OldTableError
from goldnas.lut.schema import (
    SCHEMA_VERSION,
    Accuracy,
    AnyCalibration,
    Calibration,
    CallQuantile,
    Campaign,
    Conditions,
    EnergyCalibration,
    EnergyConditions,
    Failed,
    Gpu,
    Interpolated,
    InterpolatedEnergy,
    LoopFit,
    LoopNetwork,
    Measured,
    MeasuringProtocol,
    ModelTiming,
    NetworkEnergy,
    NetworkLatency,
    QuantileFit,
    Row,
    Valued,
    compute_checksum,
)
from goldnas.lut.table import LatencyTable

__all__ = [
    "QUANTILES",
    "SCHEMA_VERSION",
    "Accuracy",
    "AnyCalibration",
    "Calibration",
    "CallQuantile",
    "Campaign",
    "Conditions",
    "EnergyCalibration",
    "EnergyConditions",
    "Failed",
    "Gpu",
    "Interpolated",
    "InterpolatedEnergy",
    "LatencyTable",
    "Loop",
    "LoopFit",
    "LoopNetwork",
    "MalformedTableError",
    "Measured",
    "MeasuringProtocol",
    "ModelTiming",
    "NetworkEnergy",
    "NetworkLatency",
    "OldTableError",
    "QuantileFit",
    "Row",
    "Valued",
    "compute_checksum",
    "format_row_key",
    "parse_row_key",
]
