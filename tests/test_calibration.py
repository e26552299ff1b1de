"""Rows and whole networks of a device whose true times are known."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from goldnas.errors import ConfigError, TableError
from goldnas.lut import Interpolated, LatencyTable
from goldnas.profiling.backend import Failure, Visit
from goldnas.profiling.calibration import calibrate, rebuild_space
from goldnas.profiling.check import check_table
from goldnas.profiling.fill import open_table
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.session import Session
from goldnas.profiling.transfer import transfer_table
from goldnas.resources import Latency
from goldnas.resources.costs import compute_costs
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures
from nightly import at_night
from simulated_device import WITHOUT_TARGET, SimulatedDevice, noisy

SPACE = GoldSpace(cells=3, channels=4, input_shape=(3, 8, 8))


@pytest.fixture(scope="module")
def session() -> Session:
    """One session for all: operators are exported once."""
    return Session(SimulatedDevice(noisy(0.5)))


@pytest.fixture(scope="module")
def measured(session: Session, tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    out = tmp_path_factory.mktemp("lut") / "cpu.json"
    return measure_rows(session, open_table(out, session.conditions), SPACE.rows())


@pytest.fixture(scope="module")
def calibrated(session: Session, measured: LatencyTable) -> LatencyTable:
    return calibrate(session, measured, SPACE, networks=20)


def test_a_calibrated_table_predicts_networks_that_it_has_not_seen(
    session: Session, calibrated: LatencyTable
) -> None:
    check = check_table(session, calibrated, SPACE, networks=30, seed=77)
    assert check.accuracy.mape_percent < 1.0
    assert check.accuracy.within_5_percent == 100
    assert check.accuracy.spearman is not None
    assert check.accuracy.spearman > 0.98
    (calibration,) = calibrated.calibrations
    assert calibration.accuracy.networks == 20
    # What the table says of itself is what a fresh sample finds.
    assert calibration.accuracy.mape_percent == pytest.approx(
        check.accuracy.mape_percent, abs=0.5
    )


def test_the_calibration_is_in_the_file_and_the_search_uses_it(
    calibrated: LatencyTable,
) -> None:
    table = LatencyTable.load(calibrated.path)
    (calibration,) = table.calibrations
    latency = Latency(table, SPACE)
    gate = SPACE.gates[1]
    key = f"{gate.operator} {gate.site}"
    assert latency.cost(gate.operator, gate.site) == calibration.latencies_us[key]
    rest = sum(latency.cost(*part) for part in SPACE.fixed_parts)
    assert compute_costs(SPACE, latency).fixed == pytest.approx(calibration.intercept_us + rest)


def test_another_space_is_not_covered_by_it(calibrated: LatencyTable) -> None:
    other = GoldSpace(cells=3, channels=4, input_shape=(3, 8, 8), classes=7)
    assert Latency(calibrated, other).calibration is None
    assert Latency(calibrated, other).overhead == 0


def test_more_networks_are_added_to_those_there(
    session: Session, calibrated: LatencyTable
) -> None:
    more = calibrate(session, calibrated, SPACE, networks=26)
    before, after = calibrated.calibrations[0].networks, more.calibrations[0].networks
    assert after[:20] == before
    assert len({network.fingerprint for network in after}) == 26
    assert calibrate(session, more, SPACE, networks=26) is more


def test_a_row_that_is_missing_is_named(session: Session, tmp_path: Path) -> None:
    empty = LatencyTable(session.conditions, (), tmp_path / "cpu.json")
    with pytest.raises(TableError, match="has no latency for stem_cifar"):
        calibrate(session, empty, SPACE, networks=2)


def test_a_table_for_another_device_takes_a_few_networks(
    session: Session, calibrated: LatencyTable, tmp_path: Path
) -> None:
    slower = Session(SimulatedDevice(noisy(0.5), slowness=3.0))
    out = tmp_path / "slow.json"
    table = transfer_table(
        slower, open_table(out, slower.conditions), SPACE, calibrated, networks=10
    )
    assert table.missing(SPACE.rows()) == ()
    assert all(isinstance(row, Interpolated) for row in table.rows)
    assert "cpu.json, fitted to 10 networks" in table.rows[0].source  # type: ignore[union-attr]
    check = check_table(slower, LatencyTable.load(out), SPACE, networks=20, seed=5)
    assert check.accuracy.mape_percent < 1.5


def test_the_space_of_a_calibration_can_be_drawn_from(calibrated: LatencyTable) -> None:
    space = rebuild_space(calibrated.calibrations[0])
    assert (space.settings, space.operators) == (SPACE.settings, SPACE.operators)


def test_a_check_measures_networks_of_the_calibration_again(
    session: Session, calibrated: LatencyTable
) -> None:
    space = rebuild_space(calibrated.calibrations[0])
    check = check_table(session, calibrated, space, networks=3, seed=77)
    assert check.slowdown == pytest.approx(1, abs=0.02)
    assert check.at_its_speed is not None
    assert check.accuracy.networks == check.at_its_speed.networks == 3


@pytest.mark.parametrize("networks", [1, 0, -1])
def test_a_check_needs_two_networks(
    session: Session, calibrated: LatencyTable, networks: int
) -> None:
    with pytest.raises(ConfigError, match=f"`networks={networks}`: .* 2 networks or more"):
        check_table(session, calibrated, SPACE, networks=networks, seed=1)


def test_a_table_that_holds_something_is_not_transferred_into(
    session: Session, calibrated: LatencyTable
) -> None:
    with pytest.raises(ConfigError, match=r"has rows already.* Choose another `out`"):
        transfer_table(session, calibrated, SPACE, calibrated, networks=4)


@at_night
def test_an_operator_that_joins_later_is_calibrated_too(
    session: Session, calibrated: LatencyTable
) -> None:
    wider = replace(SPACE, operators=(*SPACE.operators, "max_pool_3x3"))
    table = measure_rows(session, calibrated, wider.rows())
    gate = next(gate for gate in wider.gates if gate.operator == "max_pool_3x3")
    with pytest.raises(TableError, match=r"calibrated .* but not for max_pool_3x3 .* `prof"):
        Latency(table, wider).cost(gate.operator, gate.site)

    table = calibrate(session, table, wider, networks=20)
    assert len(table.calibrations[0].networks) == 40
    check = check_table(session, table, wider, networks=20, seed=3)
    assert check.accuracy.mape_percent < 1.5
    # And the space it grew from is still predicted.
    check = check_table(session, table, SPACE, networks=20, seed=3)
    assert check.accuracy.mape_percent < 1.5


def test_a_network_that_cannot_be_measured_is_left_out_with_a_warning(
    session: Session, measured: LatencyTable
) -> None:
    victim: list[str] = []

    class Picky(SimulatedDevice):
        def visit(
            self, models: Mapping[str, bytes], *, seed: int
        ) -> dict[str, tuple[Visit, ...] | Failure]:
            found = super().visit(models, seed=seed)
            networks = [name for name in models if "sentinel" not in name]
            refused = [name for name in networks if name == (victim or networks)[0]]
            victim.extend(refused)
            return found | dict.fromkeys(refused, Failure("out of memory"))

    warnings: list[str] = []
    picky = Session(Picky(noisy(0.5)), on_warning=warnings.append)
    table = calibrate(picky, measured, SPACE, networks=6)
    assert len(table.calibrations[0].networks) == 5
    assert any("is left out: out of memory" in warning for warning in warnings)


def test_an_interrupted_calibration_goes_on_where_it_was(tmp_path: Path) -> None:
    class Interrupted(SimulatedDevice):
        def visit(
            self, models: Mapping[str, bytes], *, seed: int
        ) -> dict[str, tuple[Visit, ...] | Failure]:
            # Those that see whether it is quiet, those of rows, all but one of networks.
            if len(self.processes) == 3 * self.protocol.processes - 1:
                raise KeyboardInterrupt
            return super().visit(models, seed=seed)

    def run(device: SimulatedDevice) -> LatencyTable:
        session = Session(device, journal=tmp_path / "visits")
        table = open_table(tmp_path / "cpu.json", session.conditions)
        table = measure_rows(session, table, SPACE.rows())
        return calibrate(session, table, SPACE, networks=4)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(protocol=WITHOUT_TARGET))
    torch.rand(1)  # whatever else drew from the global generator
    again = SimulatedDevice(protocol=WITHOUT_TARGET)
    assert len(run(again).calibrations[0].networks) == 4
    # One process of the networks, with the sentinels.
    assert again.processes[again.protocol.processes :] == [4 + 2]


# -- the networks ------------------------------------------------------------------------------


def test_random_networks_go_from_nearly_minimal_to_nearly_full() -> None:
    drawn = list(draw_architectures(SPACE, 20, seed=1))
    sizes = sorted(sum(map(len, a.choices.values())) for a in drawn)
    assert sizes[0] <= 0.35 * len(SPACE.gates)
    assert sizes[-1] >= 0.85 * len(SPACE.gates)
    assert len({a.fingerprint for a in drawn}) == 20
    for architecture in drawn:
        SPACE.build(architecture)


def test_random_networks_depend_on_the_seed_alone() -> None:
    def fingerprints(seed: int) -> list[str]:
        return [a.fingerprint for a in draw_architectures(SPACE, 5, seed=seed)]

    assert fingerprints(3) == fingerprints(3) != fingerprints(4)
