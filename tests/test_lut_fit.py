"""Fitting costs to whole networks: what comes out of good files, and of every bad one."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import nnls
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.errors import ConfigError
from goldnas.lut import Interpolated, LatencyTable
from goldnas.lut.accuracy import compute_accuracy
from goldnas.lut.fit import fit_additive

Array = NDArray[np.float64]
KEYS = ("mape_percent", "within_5_percent", "within_10_percent", "spearman", "kendall")
FRESH = 100


class World:
    """Random networks, the last 100 of them for testing, with true costs of 10 to 200 us."""

    def __init__(
        self, networks: int, columns: int, *, noise: float = 0.01, outliers: int = 0
    ) -> None:
        self.rng = np.random.default_rng([networks, columns, outliers])
        self.costs_us = np.exp(self.rng.uniform(np.log(10), np.log(200), columns))
        size = self.rng.uniform(1, 4, (networks + FRESH, 1))
        counts = self.rng.poisson(size, (networks + FRESH, columns)).astype(float)
        truth_us = 500 + counts @ self.costs_us
        self.counts, self.fresh = counts[:networks], counts[networks:]
        self.fresh_us = truth_us[networks:]
        self.latency_us = truth_us[:networks] * np.exp(self.rng.normal(0, noise, networks))
        self.latency_us[:outliers] *= 2

    def prior_us(self, off: float) -> Array:
        """True costs times three, each row off by so much."""
        return 3 * self.costs_us * np.exp(self.rng.normal(0, off, len(self.costs_us)))

    def error_percent(self, prior_us: Array | None = None) -> float:
        fit = fit_additive(self.counts, self.latency_us, prior=prior_us)
        return compute_accuracy(fit.predict(self.fresh), self.fresh_us).mape_percent


# -- what the fit finds ------------------------------------------------------------------------


def test_costs_and_intercept_are_found_where_the_networks_tell_them() -> None:
    world = World(60, 10, noise=0.001)
    fit = fit_additive(world.counts, world.latency_us)
    np.testing.assert_allclose(fit.costs, world.costs_us, rtol=0.05)
    assert fit.intercept == pytest.approx(500, rel=0.1)


def test_a_prior_off_by_a_factor_and_by_row_leaves_little_more_than_the_noise() -> None:
    world = World(20, 20)
    assert world.error_percent(world.prior_us(0.1)) < 1.5


def test_a_misleading_prior_does_little_harm() -> None:
    world = World(60, 20)
    shuffled = world.rng.permutation(world.costs_us)
    assert world.error_percent(shuffled) < 1.2 * world.error_percent() + 0.2


@pytest.mark.parametrize(("networks", "columns"), [(20, 60), (30, 20), (60, 20)])
def test_networks_measured_twice_too_slow_spoil_little(networks: int, columns: int) -> None:
    clean, spoilt = World(networks, columns), World(networks, columns, outliers=3)
    spoilt.counts, spoilt.costs_us = clean.counts, clean.costs_us
    spoilt.latency_us = np.where(np.arange(networks) < 3, 2, 1) * clean.latency_us
    spoilt.fresh, spoilt.fresh_us = clean.fresh, clean.fresh_us
    assert spoilt.error_percent() < 1.5 * clean.error_percent() + 1


@pytest.mark.parametrize(("networks", "columns"), [(10, 30), (20, 20), (60, 30)])
def test_it_beats_non_negative_least_squares(networks: int, columns: int) -> None:
    world = World(networks, columns, noise=0.05)
    design = np.column_stack([np.ones(networks), world.counts])
    found = nnls(design, world.latency_us)[0]
    simple = compute_accuracy(found[0] + world.fresh @ found[1:], world.fresh_us).mape_percent
    assert world.error_percent() < simple


def test_a_constant_column_keeps_its_prior_and_the_intercept_takes_the_rest() -> None:
    world = World(30, 8, noise=0.001)
    counts = np.column_stack([world.counts, np.ones(30)])
    fit = fit_additive(counts, world.latency_us, prior=3 * np.append(world.costs_us, 100.0))
    assert fit.costs[-1] == pytest.approx(100, rel=0.1)
    assert fit.intercept == pytest.approx(400, rel=0.1)


def test_an_operator_in_no_network_gets_its_prior_scaled_and_never_zero() -> None:
    world = World(30, 8, noise=0.001)
    counts = np.column_stack([world.counts, np.zeros(30)])
    with_prior = fit_additive(
        counts, world.latency_us, prior=3 * np.append(world.costs_us, 100.0)
    )
    assert with_prior.costs[-1] == pytest.approx(100, rel=0.1)
    without = fit_additive(counts, world.latency_us)
    assert world.costs_us.min() < without.costs[-1] < world.costs_us.max()


def test_equal_columns_share_their_cost() -> None:
    world = World(30, 8, noise=0.001)
    fit = fit_additive(world.counts[:, [0, 0, *range(1, 8)]], world.latency_us)
    assert fit.costs[0] == pytest.approx(fit.costs[1], rel=1e-6)
    assert fit.costs[:2].sum() == pytest.approx(world.costs_us[0], rel=0.1)


def test_a_row_without_prior_is_learnt_from_the_networks() -> None:
    world = World(30, 12)
    prior_us = world.prior_us(0.05)
    prior_us[3] = np.nan
    fit = fit_additive(world.counts, world.latency_us, prior=prior_us)
    assert fit.costs[3] == pytest.approx(world.costs_us[3], rel=0.25)


def test_whole_milliseconds_are_taken_for_rounded() -> None:
    world = World(40, 8)
    exact = world.latency_us.copy()
    world.latency_us = 1000 * np.maximum(1, np.round(exact / 1000))
    rounding_percent = 100 * np.mean(np.abs(world.latency_us / exact - 1))
    assert world.error_percent() < rounding_percent


def test_ten_thousand_networks_are_fitted_as_ten_are() -> None:
    """Also where hundreds were measured twice too slow."""
    world = World(10_000, 10, outliers=500)
    fit = fit_additive(world.counts, world.latency_us, cross_validate=False)
    np.testing.assert_allclose(fit.costs, world.costs_us, rtol=0.02)
    assert fit.intercept == pytest.approx(500, rel=0.02)
    assert 0.007 < fit.noise < 0.014
    assert np.isnan(fit.held_out).all()


def test_the_better_of_two_priors_weighs_more() -> None:
    world = World(20, 20)
    good, bad = world.prior_us(0.05), world.rng.permutation(world.costs_us)
    fit = fit_additive(world.counts, world.latency_us, prior=np.stack([bad, good]))
    assert fit.prior_shares[1] > 0.9
    assert fit.prior_shares.sum() <= 1 + 1e-9
    both = world.error_percent(np.stack([bad, good]))
    assert both == pytest.approx(world.error_percent(good), rel=0.1)


def test_priors_that_each_know_a_part_are_put_together() -> None:
    world = World(12, 20)
    first, second = world.prior_us(0.05), 10 * world.prior_us(0.05)
    first[12:], second[:8] = np.nan, np.nan
    alone = min(world.error_percent(first), world.error_percent(second))
    assert world.error_percent(np.stack([first, second])) < 0.7 * alone


def test_what_one_prior_alone_knows_is_scaled_from_it() -> None:
    world = World(30, 8, noise=0.001)
    counts = np.column_stack([world.counts, np.zeros(30)])
    better = np.append(3 * world.costs_us, np.nan)
    worse = np.append(5 * world.costs_us * np.exp(world.rng.normal(0, 0.1, 8)), 500.0)
    fit = fit_additive(counts, world.latency_us, prior=np.stack([better, worse]))
    assert fit.prior_shares[0] > 0.9
    assert fit.costs[-1] == pytest.approx(100, rel=0.2)


def test_held_out_predictions_are_not_flattered() -> None:
    """As bad as on fresh networks, where there are far too few for so many columns."""
    world = World(20, 60)
    fit = fit_additive(world.counts, world.latency_us)
    held_out = compute_accuracy(fit.held_out, world.latency_us).mape_percent
    fresh = compute_accuracy(fit.predict(world.fresh), world.fresh_us).mape_percent
    fitted = compute_accuracy(fit.predict(world.counts), world.latency_us).mape_percent
    assert held_out > 2 * fitted
    assert 0.5 * fresh < held_out < 2 * fresh


def test_the_order_of_networks_and_operators_does_not_matter() -> None:
    world = World(15, 10)
    rows, columns = world.rng.permutation(15), world.rng.permutation(10)
    one = fit_additive(world.counts, world.latency_us)
    other = fit_additive(world.counts[rows][:, columns], world.latency_us[rows])
    np.testing.assert_allclose(other.costs, one.costs[columns], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(other.held_out, one.held_out[rows], rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 1e6])
def test_the_size_of_the_latencies_does_not_matter(factor: float) -> None:
    world = World(15, 10)
    one = fit_additive(world.counts, world.latency_us)
    other = fit_additive(world.counts, factor * world.latency_us)
    np.testing.assert_allclose(other.costs, factor * one.costs, rtol=1e-4)


@pytest.mark.parametrize(
    ("counts", "latency_us", "message"),
    [
        ([[1.0]], [5.0], "at least 2 networks"),
        ([[1.0], [-1.0]], [5.0, 6.0], "not negative, got -1"),
        ([[1.0], [np.nan]], [5.0, 6.0], "counts must be finite"),
        ([[1.0], [2.0]], [5.0, 0.0], "positive, got 0"),
        ([[1.0], [2.0]], [5.0], "one amount per row"),
    ],
)
def test_what_is_no_measurement_is_refused(
    counts: list[list[float]], latency_us: list[float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit_additive(np.array(counts), np.array(latency_us))


def test_accuracy_is_relative_to_the_measurement() -> None:
    found = compute_accuracy(np.array([104.0, 188.0, 300.0]), np.array([100.0, 200.0, 300.0]))
    assert found.mape_percent == pytest.approx(10 / 3)
    assert found.within_5_percent == pytest.approx(200 / 3)
    assert found.within_10_percent == 100
    assert found.spearman == found.kendall == pytest.approx(1)


def test_equal_latencies_have_no_rank_correlation() -> None:
    assert compute_accuracy(np.array([1.0, 2.0]), np.array([3.0, 3.0])).spearman is None


# -- the command -------------------------------------------------------------------------------


def write(path: Path, operators: list[str], counts: Array, latency_us: Array) -> None:
    lines = [",".join(["name", "latency_ms", *operators])]
    for number, (row, us) in enumerate(zip(counts, latency_us, strict=True)):
        lines.append(
            ",".join([f"net{number}", repr(float(us) / 1000), *(f"{v:g}" for v in row)])
        )
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """train.csv and test.csv of 30 networks and 6 operators, in the working folder."""
    monkeypatch.chdir(tmp_path)
    made = World(30, 6)
    names = ["sep_conv_3x3 16x32x32->16/s1", *(f"op_{number}" for number in range(1, 6))]
    write(Path("train.csv"), names, made.counts, made.latency_us)
    write(Path("test.csv"), names, made.fresh, made.fresh_us)
    return made


def fit(*words: str, code: int = 0) -> str:
    """Run the command; its stdout, or its one line of stderr."""
    command = ["lut", "fit", "--networks", "train.csv", "--out", "table.json", *words]
    command += ["--force"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code, result.output
    if code:
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert not Path("table.json").exists()
        return result.stderr
    return result.stdout


def test_the_table_holds_the_whole_model(world: World) -> None:
    printed = json.loads(fit("--test", "test.csv", "--json"))
    table = LatencyTable.load("table.json")
    (calibration,) = table.calibrations
    by_name = {(row.operator, row.site): row for row in table.rows}
    keys = [("sep_conv_3x3", "16x32x32->16/s1"), *((f"op_{n}", "") for n in range(1, 6))]
    rows = [by_name[key] for key in keys]
    assert all(isinstance(row, Interpolated) and "30 networks" in row.source for row in rows)
    costs_us = np.array([row.latency_us for row in rows if isinstance(row, Interpolated)])
    found = compute_accuracy(calibration.intercept_us + world.fresh @ costs_us, world.fresh_us)
    assert {key: printed[key] for key in KEYS} == pytest.approx(
        {key: getattr(found, key) for key in KEYS}, rel=1e-3
    )
    assert printed["networks"] == 100
    assert printed["set"] == "test"
    assert len(calibration.networks) == 30
    assert calibration.networks[3].fingerprint == "net3"


def test_without_a_test_file_the_accuracy_is_cross_validated(world: World) -> None:
    printed = json.loads(fit("--json"))
    assert printed["set"] == "cross-validated"
    assert printed["networks"] == 30
    (calibration,) = LatencyTable.load("table.json").calibrations
    assert printed["mape_percent"] == pytest.approx(calibration.accuracy.mape_percent)
    assert "each by a fit to the others" in fit()


@pytest.mark.parametrize("prior", ["other.csv", "other.json"])
def test_another_device_helps(world: World, prior: str) -> None:
    other = World(60, 6)
    names = ["sep_conv_3x3 16x32x32->16/s1", *(f"op_{number}" for number in range(1, 6))]
    write(Path("other.csv"), names, other.counts, 3 * (500 + other.counts @ world.costs_us))
    write(Path("train.csv"), names, world.counts[:5], world.latency_us[:5])
    alone = json.loads(fit("--test", "test.csv", "--json"))
    made = CliRunner().invoke(
        app, ["lut", "fit", "--networks", "other.csv", "--out", "other.json"]
    )
    assert made.exit_code == 0
    helped = json.loads(fit("--test", "test.csv", "--json", "--prior", prior))
    assert helped["mape_percent"] < min(3, alone["mape_percent"])


def change(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def test_spreadsheets_of_windows_and_of_europe_are_read(world: World) -> None:
    expected = fit("--json")
    text = Path("train.csv").read_text()
    Path("train.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert fit("--json") == expected
    Path("train.csv").write_text(text.replace(",", ";").replace(".", ","))
    assert fit("--json") == expected


def test_columns_may_come_in_another_order(world: World) -> None:
    expected = fit("--test", "test.csv", "--json")
    lines = [line.split(",") for line in Path("test.csv").read_text().splitlines()]
    Path("test.csv").write_text("".join(",".join(reversed(line)) + "\n" for line in lines))
    assert fit("--test", "test.csv", "--json") == expected


def test_an_operator_in_no_network_is_a_guess_that_says_so(world: World) -> None:
    lines = Path("train.csv").read_text().splitlines()
    added = [lines[0] + ",rare", *(line + ",0" for line in lines[1:])]
    Path("train.csv").write_text("\n".join(added))
    command = ["lut", "fit", "--networks", "train.csv", "--out", "table.json", "--json"]
    result = CliRunner().invoke(app, command)
    assert "rare" in result.stderr
    assert set(KEYS) < set(json.loads(result.stdout))
    row = next(r for r in LatencyTable.load("table.json").rows if r.operator == "rare")
    assert isinstance(row, Interpolated)
    assert row.latency_us > 0
    assert row.source.startswith("guessed")


def test_several_priors_weigh_what_the_networks_say(world: World) -> None:
    names = ["sep_conv_3x3 16x32x32->16/s1", *(f"op_{number}" for number in range(1, 6))]
    other = World(60, 6)
    write(Path("good.csv"), names, other.counts, 3 * (500 + other.counts @ world.costs_us))
    wrong_us = world.costs_us[::-1] ** 2
    write(Path("bad.csv"), [*names[:5], "rare"], other.counts, 9 + other.counts @ wrong_us)
    write(Path("train.csv"), names, world.counts[:8], world.latency_us[:8])
    words = ("--prior", "bad.csv", "--prior", "good.csv")
    weights = json.loads(fit(*words, "--json"))["prior_weights_percent"]
    assert weights["good.csv"] > 50 > weights["bad.csv"]
    assert sum(weights.values()) <= 100.001
    assert "good.csv" in fit(*words)
    rows = {row.operator: row for row in LatencyTable.load("table.json").rows}
    assert isinstance(rows["rare"], Interpolated)
    assert "bad.csv" in rows["rare"].source
    assert "good.csv" in rows["op_5"].source


def test_an_operator_that_saves_time_is_named_and_counted_the_other_way_round(
    world: World,
) -> None:
    saved_us = 100 * world.counts[:, 5]
    names = [f"op_{number}" for number in range(5)]
    latency_us = 2000 + world.counts[:, :5] @ world.costs_us[:5] - saved_us
    write(Path("train.csv"), [*names, "skip"], world.counts, latency_us)
    command = ["lut", "fit", "--networks", "train.csv", "--out", "table.json", "--json"]
    result = CliRunner().invoke(app, command)
    assert "skip" in result.stderr
    held = json.loads(result.stdout)
    assert held["held_at_zero"] == ["skip"]

    counts = np.column_stack(
        [world.counts[:, :5], world.counts[:, 5].max() - world.counts[:, 5]]
    )
    write(Path("train.csv"), [*names, "not skip"], counts, latency_us)
    turned = json.loads(fit("--json"))
    assert turned["held_at_zero"] == []
    assert turned["mape_percent"] < 0.2 * held["mape_percent"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("latency_ms", "latency_us", "no column latency_ms"),
        ("op_1,", "op_2,", "2 columns are named 'op_2'"),
        ("net0,", "net0,nan,", "line 2: has 9 cells, but the header has 8"),
    ],
)
def test_a_wrong_column_is_named(world: World, old: str, new: str, message: str) -> None:
    change("train.csv", old, new)
    assert message in fit(code=2)


@pytest.mark.parametrize("latency", ["nan", "-1", "0", "inf", "1e308", "1e-320", "fast", ""])
def test_what_is_no_latency_is_refused_with_its_line(world: World, latency: str) -> None:
    lines = Path("train.csv").read_text().splitlines()
    cells = lines[4].split(",")
    lines[4] = ",".join([cells[0], latency, *cells[2:]])
    Path("train.csv").write_text("\n".join(lines))
    assert "line 5: latency_ms is" in fit(code=2)


@pytest.mark.parametrize("count", ["", "many", "-1", "nan", "1e300"])
def test_what_is_no_count_is_refused_with_its_line(world: World, count: str) -> None:
    lines = Path("train.csv").read_text().splitlines()
    lines[4] = ",".join([*lines[4].split(",")[:-1], count])
    Path("train.csv").write_text("\n".join(lines))
    message = fit(code=2)
    assert "line 5: op_5 is" in message
    assert ("write 0" in message) == (count == "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"latency_ms,a\n", "no networks"),
        (b"latency_ms,a\n1,2\n", "at least 2"),
        (b"latency_ms,name\n1,b\n2,c\n", "no column of counts"),
        (b"latency_ms,a\n1,\xff\n", "not UTF-8"),
    ],
)
def test_a_file_without_networks_is_refused(world: World, content: bytes, message: str) -> None:
    Path("train.csv").write_bytes(content)
    assert message in fit(code=2)


def test_a_test_network_of_unknown_operators_is_refused(world: World) -> None:
    change("test.csv", "op_3", "op_9")
    assert "counts op_9" in fit("--test", "test.csv", code=2)


def test_a_test_file_without_a_column_is_refused(world: World) -> None:
    lines = [line.rpartition(",")[0] for line in Path("test.csv").read_text().splitlines()]
    Path("test.csv").write_text("\n".join(lines))
    assert "no column op_5" in fit("--test", "test.csv", code=2)


def test_a_prior_of_other_operators_is_refused(world: World) -> None:
    write(Path("other.csv"), ["x", "y"], world.counts[:, :2], world.latency_us)
    assert "none of the operators" in fit("--prior", "other.csv", code=2)


@pytest.mark.parametrize("option", ["--test", "--prior"])
def test_a_missing_file_is_named(world: World, option: str) -> None:
    assert "missing.csv" in fit(option, "missing.csv", code=2)


def test_the_networks_are_never_replaced_by_the_table(world: World) -> None:
    before = Path("train.csv").read_bytes()
    assert "would replace" in fit("--out", "train.csv", code=2)
    assert Path("train.csv").read_bytes() == before
