"""What several test files need."""

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before torch is imported. The networks here are too small for two threads to pay, and
# where other programs run, two threads wait for each other more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from goldnas.lut import Conditions, LatencyTable, Measured, MeasuringProtocol
from goldnas.resources import Flops
from goldnas.spaces import GoldSpace

MakeTable = Callable[..., LatencyTable]


@pytest.fixture(scope="session")
def make_table() -> MakeTable:
    """Write a table of a space without measuring: each row takes 1 us and 1 us per kFLOP."""

    def make(path: Path, space: GoldSpace, *, scale: float = 1.0) -> LatencyTable:
        conditions = Conditions(
            device="cpu",
            cpu_model="made up",
            architecture="x86_64",
            os="Linux",
            backend="onnxruntime 0.0",
            backend_options={},
            threads=1,
            batch=1,
            precision="fp32",
            measured_on=datetime.date(2026, 1, 31),
            protocol=MeasuringProtocol(
                name="made up",
                processes=1,
                rounds=1,
                warmup_ms=1,
                visit_ms=1,
                min_calls=1,
                statistic="none",
            ),
        )
        rows = []
        for operator, site in space.rows():
            us = scale * (1 + Flops().cost(operator, site) / 1000)
            rows.append(
                Measured(
                    operator=operator,
                    site=str(site),
                    latency_us=us,
                    min_us=us,
                    p10_us=us,
                    p25_us=us,
                    median_us=us,
                    spread=0.0,
                    count=1,
                    visits=1,
                )
            )
        table = LatencyTable(conditions, tuple(rows), path)
        table.save()
        return table

    return make
