"""What lint finds in tables that somebody or something spoilt, and that it leaves good ones be.

The tables are of simulated machines; see simulated_tables.py.
"""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import EXAMPLES
from goldnas.errors import TableError
from goldnas.lut import LatencyTable, compute_checksum
from goldnas.lut.lint import RULES, lint
from goldnas.lut.lint.work import MACS, count_macs
from goldnas.operators import OPERATORS, Part
from goldnas.resources import Flops
from goldnas.site import Site
from goldnas.spaces import SPACES, GoldImageNetSpace, GoldSpace
from simulated_tables import Machine

ALL = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
SMALL = GoldSpace(channels=16, cells=8, operators=ALL)
CIFAR = GoldSpace(channels=36, cells=14, operators=ALL)
FEW = GoldSpace(channels=8, cells=6, input_shape=(3, 64, 64), operators=ALL[:4])
TINY = GoldSpace(
    channels=16, cells=2, input_shape=(1, 8, 8), operators=("sep_conv_3x3", "skip_connect")
)
ODD = GoldSpace(channels=6, cells=6, input_shape=(3, 13, 9), operators=ALL)
CPU = Machine("cpu")
PI = Machine("pi", "aarch64", overhead_us=5.0, macs_per_us=3e3, elements_per_us=800.0, seed=1)
GPU = Machine(
    "gpu", device="cuda", overhead_us=3.0, macs_per_us=2e6, elements_per_us=5e5, seed=2
)
SERVER = Machine("server", threads=2, macs_per_us=5e4, batch=64, scatter=0.1, seed=3)

GOOD = {
    f"{machine.name}, {name}": (machine, space)
    for machine, name, space in [
        (CPU, "small", SMALL),
        (CPU, "CIFAR", CIFAR),
        (CPU, "few", FEW),
        (CPU, "tiny", TINY),
        (PI, "small", SMALL),
        (PI, "CIFAR", CIFAR),
        (PI, "tiny", TINY),
        (GPU, "small", SMALL),
        (GPU, "CIFAR", CIFAR),
        (GPU, "few", FEW),
        (SERVER, "small", SMALL),
        (SERVER, "tiny", TINY),
    ]
}


@pytest.mark.parametrize(("machine", "space"), GOOD.values(), ids=GOOD)
def test_good_tables_have_no_finding(
    machine: Machine, space: GoldSpace, tmp_path: Path
) -> None:
    other = Machine("other", seed=99).table(space, tmp_path / "other.json")
    table = machine.table(space, tmp_path / "good.json")
    assert lint(table.path, [other.path]) == []


def test_a_table_is_no_copy_of_an_older_one_of_the_same_device(tmp_path: Path) -> None:
    older = CPU.table(SMALL, tmp_path / "older.json")
    table = CPU.table(SMALL, tmp_path / "cpu.json", networks=0)
    assert lint(table.path, [older.path]) == []


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("lint") / "cpu.json"
    CPU.table(SMALL, path)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


Spoil = Callable[[dict[str, Any]], object]
SEP = ("sep_conv_3x3", "16x32x32->16/s1")


def row(content: dict[str, Any], operator: str, site: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = content["rows"]
    return next(r for r in rows if (r["operator"], r["site"]) == (operator, site))


def in_row(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda content: change(row(content, *SEP))


def set_row(**fields: object) -> Spoil:
    return in_row(lambda r: r.update(fields))


def times(factor: float, *, timings: bool) -> Callable[[dict[str, Any]], None]:
    """Multiply a row's latency, and with ``timings`` all other times of it."""

    def change(r: dict[str, Any]) -> None:
        r["latency_us"] *= factor
        if timings:
            r["isolated_us"] *= factor
            r["interval_us"] *= factor
            for timing in r["timings"]:
                for name in ("min_us", "p10_us", "p25_us", "median_us"):
                    timing[name] *= factor

    return change


def all_rows(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda content: [change(r) for r in content["rows"]]


def forget_times(content: dict[str, Any]) -> None:
    content["calibrations"] = []
    for r in content["rows"]:
        r["timings"] = []


def then(*changes: Spoil) -> Spoil:
    return lambda content: [change(content) for change in changes]


def copied(content: dict[str, Any]) -> None:
    numbers = {n: v for n, v in row(content, *SEP).items() if n not in ("operator", "site")}
    row(content, "dil_conv_5x5", SEP[1]).update(copy.deepcopy(numbers))


def kernels_swapped(content: dict[str, Any]) -> None:
    for r in content["rows"]:
        if r["operator"] in ("sep_conv_3x3", "sep_conv_5x5"):
            r["operator"] = (
                "sep_conv_5x5" if r["operator"] == "sep_conv_3x3" else "sep_conv_3x3"
            )


def rows_swapped(content: dict[str, Any]) -> None:
    less, more = row(content, *SEP), row(content, "sep_conv_5x5", SEP[1])
    less["operator"], more["operator"] = more["operator"], less["operator"]


def as_interpolated(content: dict[str, Any], factor: float = 1.0) -> None:
    """The latencies alone, as of a table that others made."""
    content["rows"] = [
        {
            "status": "interpolated",
            "operator": r["operator"],
            "site": r["site"],
            "latency_us": r["latency_us"] * factor,
            "source": "theirs.yaml",
        }
        for r in content["rows"]
    ]


def imported(factor: float) -> Spoil:
    def change(content: dict[str, Any]) -> None:
        as_interpolated(content, factor)
        content["calibrations"] = []
        content["conditions"].update(device="phone", architecture="unknown")

    return change


def calibration(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda content: change(content["calibrations"][0])


def accuracy(**fields: object) -> Spoil:
    return calibration(lambda c: c["accuracy"].update(fields))


def context(c: dict[str, Any]) -> None:
    for key in c["latencies_us"]:
        if key.startswith("sep_conv_3x3"):
            c["latencies_us"][key] *= 1.5


BAD: dict[str, tuple[str, Spoil]] = {
    "negative": ("negative", set_row(latency_us=-12.5)),
    "negative interval": ("negative", set_row(interval_us=-0.1)),
    "zero": ("zero", set_row(latency_us=0)),
    "NaN": ("not-finite", set_row(latency_us=float("nan"))),
    "endless": ("not-finite", set_row(latency_us=float("inf"))),
    "twice": ("duplicate", lambda content: content["rows"].append(row(content, *SEP))),
    "twice, with other numbers": (
        "duplicate",
        lambda content: content["rows"].append(row(content, *SEP) | {"latency_us": 3.0}),
    ),
    "30 % too large": ("arithmetic", in_row(times(1.3, timings=False))),
    "30 % too small": ("arithmetic", in_row(times(0.7, timings=False))),
    "3 % too large": ("arithmetic", in_row(times(1.03, timings=False))),
    "another isolated time": ("arithmetic", in_row(lambda r: r.update(isolated_us=500.0))),
    "the time in context is the isolated one": (
        "arithmetic",
        in_row(lambda r: r.update(latency_us=r["isolated_us"])),
    ),
    "70 % too large, times too": ("siblings", in_row(times(1.7, timings=True))),
    "one row in ms": ("unit", in_row(times(1e-3, timings=True))),
    "one row in ns": ("unit", in_row(times(1e3, timings=True))),
    "one row in ms, without times": (
        "unit",
        then(forget_times, in_row(times(1e-3, timings=True))),
    ),
    "one row in ns, without times": (
        "unit",
        then(forget_times, in_row(times(1e3, timings=True))),
    ),
    "all rows in ms": ("unit", all_rows(times(1e-3, timings=True))),
    "all rows in ns": ("unit", all_rows(times(1e3, timings=True))),
    "all rows in ms, without times": (
        "unit",
        then(forget_times, all_rows(times(1e-3, timings=True))),
    ),
    "all rows in ns, without times": (
        "unit",
        then(forget_times, all_rows(times(1e3, timings=True))),
    ),
    "a field in ms": ("schema", in_row(lambda r: r.update(latency_ms=r.pop("latency_us")))),
    "copied row": ("copied", copied),
    "kernels swapped": ("order", kernels_swapped),
    "two rows swapped": ("neighbours", rows_swapped),
    "imported, in ms": ("rate", imported(1e-3)),
    "imported, in ns": ("rate", imported(1e3)),
    "quantiles out of order": (
        "quantiles",
        in_row(lambda r: r["timings"][0].update(median_us=1.0)),
    ),
    "not as good as it says": ("converged", in_row(lambda r: r.update(interval_us=5.0))),
    "not converged": ("not-converged", set_row(converged=False)),
    "left to another provider": (
        "elsewhere",
        set_row(elsewhere={"CPUExecutionProvider": 2}),
    ),
    "times missing": ("no-timings", set_row(timings=[])),
    "no device": ("schema", lambda content: content["conditions"].update(device="")),
    "unknown processor": (
        "missing-condition",
        lambda content: content["conditions"].update(cpu_model="unknown"),
    ),
    "blank backend": (
        "missing-condition",
        lambda content: content["conditions"].update(backend=" "),
    ),
    "no conditions": ("schema", lambda content: content.pop("conditions")),
    "no rows": ("schema", lambda content: content.pop("rows")),
    "not one row": ("empty", lambda content: content["rows"].clear()),
    "newer version": ("schema", lambda content: content.update(schema_version=9)),
    "bad site": ("schema", set_row(site="16x32->")),
    "a row of another kind": ("schema", lambda content: content["rows"].append([1, 2])),
    "an unknown field": ("schema", lambda content: content.update(unit="ms")),
    "calibrated with a row that is not there": (
        "calibration-rows",
        lambda content: content["rows"].remove(row(content, *SEP)),
    ),
    "better than its networks": ("accuracy", accuracy(mape_percent=0.1)),
    "more networks than there are": ("accuracy", accuracy(networks=200)),
    "shares the wrong way round": ("accuracy", accuracy(within_10_percent=50.0)),
    "shares better than its networks": (
        "accuracy",
        then(
            accuracy(mape_percent=40.0),
            calibration(lambda c: c.update(intercept_us=c["intercept_us"] * 60)),
        ),
    ),
    "networks contradict the rows": ("context", calibration(context)),
    "A/A": ("drift", lambda content: content["campaigns"][0].update(aa_percent=7.0)),
    "drift": ("drift", lambda content: content["campaigns"][0].update(drift_percent=40.0)),
}


def seal(content: dict[str, Any], path: Path) -> Path:
    content["checksum"] = compute_checksum(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("rule", "spoil"), BAD.values(), ids=BAD)
def test_a_spoilt_table_is_caught(
    good: dict[str, Any], tmp_path: Path, rule: str, spoil: Spoil
) -> None:
    """Each is sealed again: its checksum says nothing."""
    content = copy.deepcopy(good)
    spoil(content)
    findings = lint(seal(content, tmp_path / "bad.json"))
    assert rule in {finding.rule for finding in findings}
    assert "checksum" not in {finding.rule for finding in findings}


@pytest.mark.parametrize(
    ("machine", "space"), [(CPU, SMALL), (PI, TINY), (SERVER, SMALL), (GPU, CIFAR)]
)
@pytest.mark.parametrize("calibrated", [False, True])
def test_the_unit_of_interpolated_rows_is_checked(
    machine: Machine, space: GoldSpace, calibrated: bool, tmp_path: Path
) -> None:
    """Nanoseconds of a GPU look like those of a slow one."""
    table = machine.table(space, tmp_path / "table.json", networks=2 * calibrated)
    for factor in (1.0, 1e-3) if machine is GPU else (1.0, 1e-3, 1e3):
        content = json.loads(table.path.read_text())
        as_interpolated(content, factor)
        found = {f.rule for f in lint(seal(content, tmp_path / "scaled.json"))} - {"accuracy"}
        assert found == ({"unit"} if factor != 1 else set()), factor


def test_one_interpolated_row_in_another_unit_is_found(
    good: dict[str, Any], tmp_path: Path
) -> None:
    """Unless a fit to whole networks left next to nothing for it, which is not the unit."""
    for factor in (1e-3, 1e3):
        content = copy.deepcopy(good)
        as_interpolated(content)
        row(content, *SEP)["latency_us"] *= factor
        fitted = lint(seal(content, tmp_path / "fitted.json"))
        content["calibrations"] = []
        alone = lint(seal(content, tmp_path / "t.json"))
        assert {f.place for f in alone if f.rule == "unit"} == {" ".join(SEP)}
        assert "unit" not in {f.rule for f in fitted}


def test_rows_of_unknown_operators_are_held_against_each_other(
    good: dict[str, Any], tmp_path: Path
) -> None:
    """What they have to do is not nothing: it is not known, but for what their sites bound."""
    assert count_macs("own", Site.parse(SEP[1])) is None
    content = copy.deepcopy(good)
    imported(1.0)(content)
    for r in content["rows"]:
        r["operator"] = f"own_{r['operator'].replace('x', '-')}"
    assert not {"unit", "rate"} & {f.rule for f in lint(seal(content, tmp_path / "own.json"))}
    spoilt = row(content, "own_sep_conv_3-3", SEP[1])
    spoilt["latency_us"] *= 1000
    units = [f for f in lint(seal(content, tmp_path / "one.json")) if f.rule == "unit"]
    assert [f.place for f in units] == [f"{spoilt['operator']} {spoilt['site']}"]
    for r in content["rows"]:
        r["latency_us"] *= 1e5
    assert "rate" in {f.rule for f in lint(seal(content, tmp_path / "slow.json"))}


def test_a_broken_checksum_is_the_only_finding_in_a_table_that_is_else_good(
    good: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(good | {"checksum": "sha256:" + "0" * 64}))
    assert [finding.rule for finding in lint(path)] == ["checksum"]


@pytest.mark.parametrize(
    ("text", "rule", "found"),
    [
        ("", "json", "line 1, column 1: not JSON"),
        ('{"schema_version": 2, "rows": [{"operator"', "json", "line 1, column 43: not JSON"),
        ("latency: 5", "json", "not JSON"),
        ("[1, 2]", "schema", "not a latency table, but a list"),
        (
            '{"space": "gold", "edges": {}}',
            "schema",
            "not a latency table, but an object with space",
        ),
        ("{}", "schema", "an object with nothing"),
    ],
)
def test_other_files_are_told_from_tables(
    tmp_path: Path, text: str, rule: str, found: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    (finding,) = lint(path)
    assert finding.rule == rule
    assert found in finding.found


def test_half_a_table_is_caught(good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    text = json.dumps(good)
    path.write_text(text[: len(text) // 2])
    (finding,) = lint(path)
    assert finding.rule == "json"


def test_all_findings_are_reported_and_not_the_first(
    good: dict[str, Any], tmp_path: Path
) -> None:
    content = copy.deepcopy(good)
    content["rows"][0]["latency_us"] = -1.0
    content["rows"][1]["latency_us"] = 0.0
    content["rows"][2]["latency_us"] = float("nan")
    content["rows"].append(content["rows"][3])
    content["conditions"]["precision"] = "unknown"
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    rules = {finding.rule for finding in lint(path)}
    expected = {"negative", "zero", "not-finite", "duplicate", "missing-condition", "checksum"}
    assert rules >= expected


@pytest.mark.parametrize("share", [1, 4])
def test_rows_of_another_device_are_recognised(
    good: dict[str, Any], tmp_path: Path, share: int
) -> None:
    """The whole table under another name, or every fourth row of it."""
    pi = PI.table(SMALL, tmp_path / "pi.json", networks=0)
    content = json.loads(pi.path.read_text())
    for number in range(0, len(content["rows"]), share):
        content["rows"][number] = good["rows"][number]
    content["checksum"] = compute_checksum(content)
    path, theirs = tmp_path / "copy.json", tmp_path / "cpu.json"
    path.write_text(json.dumps(content))
    theirs.write_text(json.dumps(good))
    assert "copied-from" not in {finding.rule for finding in lint(path)}
    copies = [f for f in lint(path, [theirs]) if f.rule == "copied-from"]
    assert len(copies) == len(range(0, len(content["rows"]), share))


def untimed(good: dict[str, Any], name: str, latencies_us: list[float]) -> dict[str, Any]:
    """A table that others made: ``name`` is its device."""
    content = copy.deepcopy(good)
    imported(1.0)(content)
    content["conditions"]["device"] = name
    content["rows"] = [
        {**content["rows"][0], "operator": f"own_{number}", "latency_us": us}
        for number, us in enumerate(latencies_us)
    ]
    return content


@pytest.mark.parametrize(
    ("copies", "denominator", "found"),
    [
        (1, None, 1),
        (3, None, 3),
        (3, 164.0, 3),  # means of 164 calls on a clock of 1 us: some values, sixteen digits
        (1, 164.0, 0),
        (3, 0.1, 0),  # rounded
        (3, 0.3, 0),  # means of three calls on a clock of 10 us
    ],
)
def test_few_copied_rows_of_many_are_found_by_their_digits(
    good: dict[str, Any], tmp_path: Path, copies: int, denominator: float | None, found: int
) -> None:
    random = np.random.default_rng(0)

    def draw() -> list[float]:
        drawn = random.uniform(1000.0, 9000.0, 200)
        if denominator:
            drawn = np.round(drawn * denominator) / denominator
        return [float(us) for us in drawn]

    theirs, ours = draw(), draw()
    ours[:copies] = theirs[:copies]
    other = seal(untimed(good, "theirs", theirs), tmp_path / "theirs.json")
    path = seal(untimed(good, "ours", ours), tmp_path / "ours.json")
    copied = [f for f in lint(path, [other]) if f.rule == "copied-from"]
    assert len(copied) == found


def test_a_file_that_is_not_there_is_an_error_and_no_finding(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"no latency table .*gone\.json"):
        lint(tmp_path / "gone.json")


def test_a_bad_table_to_hold_against_is_an_error(good: dict[str, Any], tmp_path: Path) -> None:
    for name, text in (("good.json", json.dumps(good)), ("bad.json", "{}")):
        (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=r"bad\.json is not a latency table"):
        lint(tmp_path / "good.json", [tmp_path / "bad.json"])


def test_the_work_of_what_spaces_begin_with_is_known() -> None:
    """Rows of other operators are held against each other alone."""
    needed = {operator for kind in SPACES.values() for operator, _ in kind().rows()}
    assert needed <= set(MACS) <= set(OPERATORS)
    large = GoldImageNetSpace(channels=6, cells=1, input_shape=(3, 45, 31))
    for operator, site in {*SMALL.rows(), *FEW.rows(), *ODD.rows(), *large.rows()}:
        assert MACS[operator](site) == Flops().cost(operator, site), (operator, site)


@dataclass(frozen=True)
class Blocks:
    """Inverted residual blocks with every kernel, on their way through a network."""

    def rows(self) -> tuple[Part, ...]:
        return tuple(
            (
                f"mbconv_{kernel}x{kernel}_e{expansion}_hswish",
                Site(channels, channels, size, size),
            )
            for channels, size in [(16, 56), (32, 28), (64, 14), (96, 14), (160, 7)]
            for kernel in (3, 5, 7)
            for expansion in (3, 6)
        )


def test_blocks_are_held_against_each_other_as_other_operators_are(tmp_path: Path) -> None:
    table = CPU.table(Blocks(), tmp_path / "blocks.json", networks=0)
    assert lint(table.path) == []
    content = json.loads(table.path.read_text())
    swapped = {"_3x3_": "_7x7_", "_7x7_": "_3x3_"}
    for r in content["rows"]:
        r["operator"] = re.sub("_3x3_|_7x7_", lambda m: swapped[m[0]], r["operator"])
    content["checksum"] = compute_checksum(content)
    table.path.write_text(json.dumps(content))
    assert {"neighbours", "order"} == {finding.rule for finding in lint(table.path)}


def test_a_few_slow_kernels_are_no_error(tmp_path: Path) -> None:
    table = CPU.table(Blocks(), tmp_path / "blocks.json", networks=0)
    content = json.loads(table.path.read_text())
    times(2.0, timings=True)(row(content, "mbconv_5x5_e6_hswish", "32x28x28->32/s1"))
    findings = lint(seal(content, table.path))
    assert {f.rule for f in findings} == {"neighbours", "siblings"}
    assert {f.severity for f in findings} == {"warning"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_work_of_every_family_is_known(name: str) -> None:
    for site in (Site(8, 8, 9, 7), Site(24, 40, 9, 7, 2, affine=True)):
        strided = Site(24, 40, 9, 7) if name.startswith("classifier") else site
        assert count_macs(name, strided) == Flops().cost(name, strided) > 0, (name, strided)


def test_lint_needs_no_torch(good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps(good))
    code = (
        "import sys; from goldnas.lut.lint import lint; "
        f"assert not lint({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_every_rule_is_one_that_a_test_breaks() -> None:
    elsewhere = {"json", "checksum", "copied-from", "repeated", "failed", "free"}
    elsewhere |= {"unknown-condition"}  # of imported tables
    assert {rule for rule, _ in BAD.values()} | elsewhere == set(RULES)


def test_what_is_no_measurement_is_pointed_out(good: dict[str, Any], tmp_path: Path) -> None:
    content = copy.deepcopy(good)
    place = {"operator": "mbconv", "site": "16x32x32->16/s1"}
    content["rows"] = [
        place | {"status": "failed", "error": "out of memory"},
        *(
            {"status": "interpolated", "operator": name, "latency_us": us, "source": "fit"}
            for name, us in (("free", 0.0), ("one", 12.345678), ("two", 12.345678))
        ),
    ]
    content["calibrations"] = []
    content["checksum"] = compute_checksum(content)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content))
    assert LatencyTable.load(path)
    assert sorted(finding.rule for finding in lint(path)) == ["failed", "free", "repeated"]
