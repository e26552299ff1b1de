"""Latency tables of machines that do not exist, as a campaign would write them."""

import datetime
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goldnas.lut import (
    Accuracy,
    Calibration,
    Campaign,
    Conditions,
    LatencyTable,
    Measured,
    MeasuringProtocol,
    ModelTiming,
    NetworkLatency,
)
from goldnas.resources import Flops
from goldnas.site import Site
from goldnas.spaces import GoldSpace

PROTOCOL = MeasuringProtocol(
    name="in-context",
    processes=3,
    rounds=5,
    warmup_ms=4.0,
    visit_ms=20.0,
    min_calls=7,
    statistic="p25 over visits of p10 within a visit",
    target_percent=1.0,
)


def _family(operator: str) -> str:
    """What may suit a machine; kernels of an operator suit it alike."""
    return re.sub(r"_\d+x\d+(?=_)", "", operator).rpartition("_")[0]


@dataclass(frozen=True)
class Machine:
    """What an operator takes is an overhead, its multiply-adds and its traffic, roughly."""

    name: str
    architecture: str = "x86_64"
    device: str = "cpu"
    overhead_us: float = 1.0
    macs_per_us: float = 30_000.0
    elements_per_us: float = 8_000.0
    threads: int = 1
    batch: int = 1
    vector: int = 16
    seed: int = 0
    scatter: float = 0.05
    """How far single rows are from the rule: some sizes suit a machine better."""
    noise: float = 0.002
    """Of a measurement."""

    def table(self, space: GoldSpace, path: Path, *, networks: int = 20) -> LatencyTable:
        """A table of the space, calibrated, saved."""
        random = np.random.default_rng(self.seed)
        families = sorted({_family(name) for name, _ in space.rows()})
        suits = {family: math.exp(random.normal(0, 0.25)) for family in families}
        rows = [
            self._row(operator, site, suits[_family(operator)], random)
            for operator, site in space.rows()
        ]
        table = LatencyTable(self._conditions(), tuple(rows), path)
        if networks:
            table = table.with_calibration(self._calibration(space, rows, networks, random))
        table = table.with_campaign(
            Campaign(
                measured_on=datetime.date(2026, 1, 31),
                rows=len(rows),
                networks=networks,
                seconds=240.5,
                aa_percent=0.4,
                drift_percent=2.5,
            )
        )
        table.save()
        return table

    def _conditions(self) -> Conditions:
        return Conditions(
            device=self.device,
            cpu_model=f"{self.name} model 1",
            architecture=self.architecture,
            os="Linux 6.1",
            backend="onnxruntime 1.31.1",
            backend_options={"graph_optimization": "all"},
            threads=self.threads,
            batch=self.batch,
            precision="fp32",
            measured_on=datetime.date(2026, 1, 31),
            protocol=PROTOCOL,
        )

    def _row(
        self, operator: str, site: Site, suits: float, random: np.random.Generator
    ) -> Measured:
        read = site.in_channels * site.height * site.width
        elements = self.batch * (read + site.out_channels * site.out_height * site.out_width)
        macs = self.batch * Flops().cost(operator, site)
        unfit = 1.0 if site.in_channels % self.vector == 0 else 1.6
        latency_us = self.overhead_us + unfit * (
            macs / self.macs_per_us + elements / self.elements_per_us
        )
        latency_us *= suits * math.exp(random.normal(0, self.scatter))
        shared_us = 3 * self.overhead_us + elements / self.elements_per_us

        def timing(model: str, us: float) -> ModelTiming:
            us *= math.exp(abs(random.normal(0, self.noise)))
            visits = PROTOCOL.processes * PROTOCOL.rounds
            calls = max(PROTOCOL.min_calls, round(PROTOCOL.visit_ms * 1000 / (1.03 * us)))
            quantiles = [round(us * factor, 3) for factor in (0.98, 1.0, 1.01, 1.03)]
            return ModelTiming(
                model,
                *quantiles,
                spread=round(abs(random.normal(0, 0.02)), 4),
                calls=visits * calls,
                visits=visits,
            )

        keeps = site.stride == 1 and site.in_channels == site.out_channels
        few, many = ("chain of 2", "chain of 6") if keeps else ("1 branches", "5 branches")
        count = 2 if keeps else 1
        fed = not keeps and operator.endswith("pool_3x3")
        feeder_us = elements / self.elements_per_us if fed else 0.0
        each_us = latency_us + feeder_us
        timings = [
            timing("isolated", latency_us + shared_us),
            timing(few, shared_us + count * each_us),
            timing(many, shared_us + (count + 4) * each_us),
        ]
        measured_us = (timings[2].p10_us - timings[1].p10_us) / 4
        if fed:
            timings += [timing("2 feeders", 2 * feeder_us), timing("6 feeders", 6 * feeder_us)]
            measured_us -= (timings[4].p10_us - timings[3].p10_us) / 4
        return Measured(
            operator=operator,
            site=str(site),
            latency_us=round(measured_us, 3),
            interval_us=round(0.008 * measured_us, 3),
            converged=True,
            isolated_us=timings[0].p10_us,
            method="chain" if keeps else "branches",
            timings=tuple(timings),
        )

    def _calibration(
        self,
        space: GoldSpace,
        rows: list[Measured],
        networks: int,
        random: np.random.Generator,
    ) -> Calibration:
        fitted = {row.key: row.latency_us * math.exp(random.normal(0, 0.05)) for row in rows}
        keys, intercept_us = list(fitted), 5 * self.overhead_us
        measured = []
        for number in range(networks):
            chosen = random.choice(keys, size=min(12, len(keys)), replace=False)
            parts = {str(key): int(random.integers(1, 5)) for key in chosen}
            us = intercept_us + sum(count * fitted[key] for key, count in parts.items())
            us *= math.exp(random.normal(0, 0.01))
            measured.append(
                NetworkLatency(f"{number:08x}", parts, latency_us=us, interval_us=0.01 * us)
            )
        return Calibration(
            space=space.name,
            settings={"cells": 6},
            intercept_us=intercept_us,
            latencies_us=fitted,
            prior_us={},
            accuracy=Accuracy(
                networks=networks,
                mape_percent=1.2,
                within_5_percent=100.0,
                within_10_percent=100.0,
                spearman=0.99,
                kendall=0.95,
            ),
            noise_floor_percent=0.5,
            networks=tuple(measured),
        )
