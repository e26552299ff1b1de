"""Filling a table, row by row, on the real backend."""

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from goldnas.errors import ConfigError, TableError
from goldnas.lut import Failed, LatencyTable, Measured, MeasuringProtocol
from goldnas.operators import OPERATORS, Part
from goldnas.profiling.backend import (
    Failure,
    MeasurementBackend,
    NodeTime,
    ProcessDiedError,
    Visit,
)
from goldnas.profiling.fill import open_table
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.session import Session
from goldnas.site import Site
from nightly import at_night
from simulated_device import WITHOUT_TARGET, SimulatedDevice

QUICK = msgspec.structs.replace(
    IN_CONTEXT, processes=3, rounds=2, visit_ms=2.0, warmup_ms=1.0, target_percent=None
)
SITE = Site(4, 4, 8, 8)
ROWS = [(name, SITE) for name in ("skip_connect", "max_pool_3x3", "relu_conv_bn")]


class Counting(OnnxruntimeBackend):
    """The real backend, with a record of the rows it was asked for."""

    def __init__(self, threads: int = 1, protocol: MeasuringProtocol = QUICK) -> None:
        super().__init__(threads, protocol=protocol)
        self.asked: dict[str, int] = {}

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        for row in {name.split(":")[0] for name in models if ":" in name}:
            self.asked[row] = self.asked.get(row, 0) + 1
        return super().visit(models, seed=seed)


def fill(
    backend: MeasurementBackend, out: Path, rows: list[Part], *, batch: int = 1
) -> LatencyTable:
    session = Session(backend, batch=batch, journal=out.with_suffix(".visits"))
    table = open_table(out, session.conditions)
    return session.finish(measure_rows(session, table, rows), table)


def group_rows(path: Path) -> dict[str, Measured | Failed]:
    return {row.operator: row for row in LatencyTable.load(path).rows}


def test_a_second_run_measures_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "lut" / "cpu.json"
    first = Counting()
    fill(first, out, ROWS[:2])
    assert first.asked == {"skip_connect 4x8x8->4/s1": 3, "max_pool_3x3 4x8x8->4/s1": 3}
    kept = group_rows(out)

    again = Counting()
    fill(again, out, ROWS[:2])
    assert again.asked == {}
    assert group_rows(out) == kept

    more = Counting()
    fill(more, out, ROWS)
    assert more.asked == {"relu_conv_bn 4x8x8->4/s1": 3}
    assert group_rows(out).items() > kept.items()


def test_a_row_says_what_it_was_worked_out_from(tmp_path: Path) -> None:
    device = SimulatedDevice(lambda random, _: 1 + 0.001 * random.standard_normal())
    table = fill(device, tmp_path / "cpu.json", ROWS)
    for row in table.rows:
        assert isinstance(row, Measured)
        timings = {timing.model: timing.p10_us for timing in row.timings}
        slope = (timings["chain of 6"] - timings["chain of 2"]) / 4
        assert row.latency_us == pytest.approx(slope, abs=0.002)
        assert row.isolated_us == timings["isolated"]
        assert row.interval_us > 0
    (campaign,) = table.campaigns
    assert campaign.rows == len(ROWS)
    assert campaign.seconds > 0


@at_night
def test_measuring_goes_on_until_the_interval_is_narrow_or_its_time_is_up(
    tmp_path: Path,
) -> None:
    hard = Counting(protocol=msgspec.structs.replace(QUICK, target_percent=1e-6))
    easy = Counting(protocol=msgspec.structs.replace(QUICK, target_percent=1e6))
    tables = [
        fill(hard, tmp_path / "hard.json", ROWS[2:]),
        fill(easy, tmp_path / "easy.json", ROWS[2:]),
    ]
    assert [row.converged for table in tables for row in table.rows] == [False, True]  # type: ignore[union-attr]
    assert list(hard.asked.values()) == [24]
    assert list(easy.asked.values()) == [3]


@pytest.mark.parametrize(
    ("threads", "batch", "named"),
    [(2, 1, "threads was 1, is now 2"), (1, 8, "batch was 1, is now 8")],
)
def test_a_table_of_other_conditions_is_not_mixed(
    tmp_path: Path, threads: int, batch: int, named: str
) -> None:
    out = tmp_path / "cpu.json"
    LatencyTable(Counting().conditions(batch=1), (), out).save()
    before = out.read_bytes()
    with pytest.raises(TableError, match=f"other conditions: {named}. Choose another `out`"):
        fill(Counting(threads), out, ROWS, batch=batch)
    assert out.read_bytes() == before


class HalfPrecision(nn.Module):
    """Exports well; onnxruntime has no such kernel on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.bfloat16) * 2).float()


class Branching(nn.Module):
    """Cannot be exported: what it does depends on the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_fails_is_recorded_as_failed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cpu.json"
    monkeypatch.setitem(OPERATORS, "half_precision", lambda site: HalfPrecision())
    monkeypatch.setitem(OPERATORS, "branching", lambda site: Branching())
    wanted = [("half_precision", SITE), ("branching", SITE), ROWS[0]]
    table = fill(Counting(), out, wanted)
    rows = group_rows(out)
    assert isinstance(rows["skip_connect"], Measured)
    assert isinstance(rows["half_precision"], Failed)
    assert "Could not find an implementation for Mul" in rows["half_precision"].error
    assert isinstance(rows["branching"], Failed)
    assert "cannot export Branching" in rows["branching"].error
    assert table.missing(wanted) == tuple(wanted[:2])

    monkeypatch.setitem(OPERATORS, "half_precision", OPERATORS["max_pool_3x3"])
    fill(Counting(), out, [("half_precision", SITE)])
    assert isinstance(group_rows(out)["half_precision"], Measured)


def test_a_model_that_kills_its_process_does_not_take_the_others_along(tmp_path: Path) -> None:
    class Fragile(Counting):
        def visit(
            self, models: Mapping[str, bytes], *, seed: int
        ) -> dict[str, tuple[Visit, ...] | Failure]:
            if any(name.startswith("max_pool") for name in models):
                raise ProcessDiedError("the process that measures ended with status -11")
            return super().visit(models, seed=seed)

    out = tmp_path / "cpu.json"
    fill(Fragile(), out, ROWS[:2])
    rows = group_rows(out)
    assert isinstance(rows["skip_connect"], Measured)
    assert isinstance(rows["max_pool_3x3"], Failed)
    assert rows["max_pool_3x3"].error == "the process that measures ended with status -11"


def test_a_board_that_is_short_of_memory_is_asked_for_less_from_then_on(
    tmp_path: Path,
) -> None:
    class SmallBoard(Counting):
        deaths = 0

        def visit(
            self, models: Mapping[str, bytes], *, seed: int
        ) -> dict[str, tuple[Visit, ...] | Failure]:
            if len(models) > 4:  # two of them sentinels
                self.deaths += 1
                raise ProcessDiedError("the process that measures ended with status -9")
            return super().visit(models, seed=seed)

    board, out = SmallBoard(), tmp_path / "cpu.json"
    fill(board, out, ROWS[:2])
    rows = group_rows(out)
    assert all(isinstance(row, Measured) for row in rows.values())
    assert board.protocol.processes > 2
    assert 0 < board.deaths <= 3  # by halves in the first process, and never again


def test_an_unknown_operator_is_a_mistake_of_the_caller_and_no_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown operator 'conv'; known: avg_pool_3x3"):
        fill(Counting(), tmp_path / "cpu.json", [("conv", SITE)])
    assert not any(tmp_path.iterdir())


KILLED = [("max_pool_3x3", Site(4, 4, size, size)) for size in (4, 6, 8)]
CAMPAIGN = """
import sys
from pathlib import Path
import msgspec
from goldnas.profiling import measuring
from goldnas.profiling.fill import open_table
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.session import Session
from goldnas.site import Site

quick = msgspec.structs.replace(
    IN_CONTEXT, processes=3, rounds=2, visit_ms=2.0, warmup_ms=1.0, target_percent=None
)
measuring.NOISE_WARNS = measuring.NOISE_REFUSES = float("inf")
rows = [(operator, Site.parse(site)) for operator, site in zip(sys.argv[2::2], sys.argv[3::2])]
out = Path(sys.argv[1])
session = Session(OnnxruntimeBackend(protocol=quick), journal=out.with_suffix(".visits"))
measure_rows(session, open_table(out, session.conditions), rows)
"""


@at_night
def test_after_a_kill_the_next_run_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    journal = out.with_suffix(".visits")
    rows = [str(word) for row in KILLED for word in row]
    process = subprocess.Popen([sys.executable, "-P", "-c", CAMPAIGN, str(out), *rows])
    deadline = time.monotonic() + 120
    while not journal.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    with journal.open("a") as file:
        file.write('["max_pool_3x3 4x4x4->4/s1: chain of 2 0123", [[25, 1.0')  # cut short

    again = Counting()
    table = fill(again, out, KILLED)
    assert all(asked < QUICK.processes for asked in again.asked.values())
    assert table.missing(KILLED) == ()
    assert not journal.exists()


# -- providers and the state of the device -----------------------------------------------------


class Partial(SimulatedDevice):
    """A provider that leaves every pooling to another one."""

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, tuple[NodeTime, ...] | Failure]:
        return {
            name: tuple(
                dataclasses.replace(node, provider="other")
                if isinstance(node, NodeTime) and "Pool" in node.operator
                else node
                for node in nodes
            )
            for name, nodes in super().nodes(models).items()
            if not isinstance(nodes, Failure)
        }


POOLING = [("skip_connect", Site(4, 4, 8, 8)), ("max_pool_3x3", Site(4, 4, 8, 8))]


def test_rows_say_which_of_their_nodes_another_provider_ran(tmp_path: Path) -> None:
    session = Session(Partial(protocol=WITHOUT_TARGET))
    table = measure_rows(session, open_table(tmp_path / "a.json", session.conditions), POOLING)
    rows = {row.operator: row for row in LatencyTable.load(table.path).rows}
    assert rows["skip_connect"].elsewhere == {}  # type: ignore[union-attr]
    assert rows["max_pool_3x3"].elsewhere == {"other": 1}  # type: ignore[union-attr]


def test_strict_refuses_such_rows(tmp_path: Path) -> None:
    session = Session(Partial(protocol=WITHOUT_TARGET))
    table = open_table(tmp_path / "a.json", session.conditions)
    table = measure_rows(session, table, POOLING, strict=True)
    rows = {row.operator: row for row in table.rows}
    assert isinstance(rows["skip_connect"], Measured)
    assert isinstance(rows["max_pool_3x3"], Failed)
    assert rows["max_pool_3x3"].error == "simulated leaves nodes: 1 to other"


def test_how_hot_the_device_was_is_in_the_table(tmp_path: Path) -> None:
    device = SimulatedDevice(protocol=WITHOUT_TARGET)
    for state in (
        {"temperature_c": 61.0, "frequency_mhz": 2400.0, "waited_s": 0.0},
        {"temperature_c": 79.5, "frequency_mhz": 1500.0, "waited_s": 30.0},
    ):
        device.health = device.health.with_state(state)
    session = Session(device)
    before = open_table(tmp_path / "a.json", session.conditions)
    (campaign,) = session.finish(measure_rows(session, before, POOLING), before).campaigns
    assert (campaign.hottest_c, campaign.slowest_mhz, campaign.waited_s) == (79.5, 1500, 30)
