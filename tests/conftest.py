"""What several test files need."""

import datetime
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
import typer.testing

# Before torch is imported. The networks here are too small for two threads to pay, and
# where other programs run, two threads wait for each other more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch

import export_cache
from goldnas.lut import (
    Conditions,
    InterpolatedEnergy,
    LatencyTable,
    Measured,
    MeasuringProtocol,
)
from goldnas.lut.schema import make_unstated_conditions
from goldnas.picking import config as picking_config
from goldnas.picking import pick
from goldnas.profiling import (
    loop_calibration,
    measuring,
    onnxruntime_backend,
    runner_backend,
    whole_model,
)
from goldnas.resources import Flops, Parameters
from goldnas.site import Site
from goldnas.spaces import SearchSpace
from workplace import fill

pytest_plugins = ["bundles"]

export_cache.prepare_once()

# CliRunner makes all commands again for each one that it runs, and the tests run thousands.
typer.testing._get_command = cache(typer.testing._get_command)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where goldnas notes what this user made: not in the home of who tests."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Export equal modules once, in whichever process of pytest."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "exports").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.onnx, "export", export_cache.once(torch.onnx.export, folder / "exports")
        )
        yield


NOISE_LIMITS = "NOISE_WARNS", "NOISE_REFUSES"
AS_SHIPPED = {name: getattr(measuring, name) for name in NOISE_LIMITS}


@pytest.fixture(scope="session", autouse=True)
def any_machine() -> Iterator[None]:
    """Measure however noisy the machine is: what tests show must not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in NOISE_LIMITS:
            patch.setattr(measuring, name, math.inf)
        yield


@pytest.fixture
def noise_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge noise as users have it: for times that are made up."""
    for name, percent in AS_SHIPPED.items():
        monkeypatch.setattr(measuring, name, percent)


MakeRow = Callable[[str, Site, float], Measured]
MakeTable = Callable[..., LatencyTable]


@pytest.fixture(scope="session")
def conditions() -> Conditions:
    """Of a machine that does not exist."""
    return Conditions(
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


@pytest.fixture(scope="session")
def make_row() -> MakeRow:
    """Make a row of a table without measuring."""

    def make(operator: str, site: Site, latency_us: float) -> Measured:
        return Measured(
            operator=operator,
            site=str(site),
            latency_us=latency_us,
            interval_us=0.0,
            converged=True,
            isolated_us=latency_us,
            method="isolated",
            timings=(),
        )

    return make


@pytest.fixture(scope="session")
def make_table(conditions: Conditions, make_row: MakeRow) -> MakeTable:
    """Write a table of a space without measuring: each row takes 1 us and 1 us per kFLOP.

    Or ``row_us``, whatever the row; the conditions may be others too.
    """
    made_up = conditions

    def make(
        path: Path,
        space: SearchSpace,
        *,
        scale: float = 1.0,
        row_us: float | None = None,
        conditions: Conditions = made_up,
    ) -> LatencyTable:
        flops = Flops(space.build_part)
        rows = (
            make_row(operator, site, row_us or scale * (1 + flops.cost(operator, site) / 1000))
            for operator, site in space.rows()
        )
        table = LatencyTable(conditions, tuple(rows), path)
        table.save()
        return table

    return make


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Let commands measure badly, and soon: few and short visits."""
    few = msgspec.structs.replace(
        onnxruntime_backend.IN_CONTEXT, processes=2, rounds=2, visit_ms=4.0, warmup_ms=1.0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime_backend, "IN_CONTEXT", few)
        patch.setattr(pick, "WHOLE_NETWORKS", few)
        patch.setattr(picking_config, "WHOLE_NETWORKS", few)
        patch.setattr(measuring, "MOST_PROCESSES", few.processes)
        patch.setattr(whole_model, "_PROFILES", 1)
        patch.setattr(loop_calibration, "LOOP_NETWORKS", 4)
        patch.setattr(runner_backend, "_LEAST_S", 0.02)
        yield


@pytest.fixture(scope="session")
def make_energies() -> MakeTable:
    """Write a table of energies: each row takes 1 uJ and 1 uJ per 1,000 parameters."""

    def make(path: Path, space: SearchSpace) -> LatencyTable:
        parameters = Parameters(space.build_part)
        rows = tuple(
            InterpolatedEnergy(
                operator=operator,
                site=str(site),
                energy_uj=1 + parameters.cost(operator, site) / 1000,
                source="made up",
            )
            for operator, site in space.rows()
        )
        conditions = make_unstated_conditions(
            "made up", protocol="imported from csv", statistic="energy_uJ", kind="energy"
        )
        table = LatencyTable(conditions, rows, path)
        table.save()
        return table

    return make


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Path:
    folder = tmp_path_factory.mktemp("template")
    fill(folder, make_table)
    return folder


@pytest.fixture
def workplace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of workplace.py, where the process is; each test has a copy of its own."""
    folder = tmp_path / "workplace"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder
