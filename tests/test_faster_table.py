"""``5ms@ort,openvino``: a budget by the faster of several tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import goldnas
from goldnas.lut import Conditions, LatencyTable
from workplace import SPACE, Case, assert_refused, invoke

MakeTable = Callable[..., LatencyTable]

SEARCH = (
    "search --data digits --cells 2 --channels 4 --epochs 1 --batch-size 512 "
    "--auxiliary-weight 0 --train-device cpu --no-report --out new "
    "--latency-lut steep.json --latency-lut flat.json"
)


@pytest.fixture
def place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_table: MakeTable,
    conditions: Conditions,
) -> Path:
    """Two tables: small networks are faster by ``steep``, and large ones by ``flat``."""
    monkeypatch.chdir(tmp_path)
    make_table(Path("steep.json"), SPACE)
    flat = msgspec.structs.replace(conditions, backend="openvino 0.0")
    make_table(Path("flat.json"), SPACE, row_us=4.0, conditions=flat)
    return tmp_path


def search(*budgets: str, out: str = "new", **settings: Any) -> tuple[goldnas.Run, list[str]]:
    """A short search, and its notes."""
    notes: list[str] = []

    def listen(event: str, fields: dict[str, Any]) -> None:
        if event == "note":
            notes.append(fields["text"])

    given = {"tables": ["steep.json", "flat.json"], "auxiliary_weight": 0, "epochs": 1}
    given |= {"batch_size": 512, "train_device": "cpu", "on_event": listen} | settings
    return goldnas.search(SPACE, budgets=budgets, out=out, **given), notes


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("limit_us", "chosen"), [(52, "steep"), (130, "flat")])
def test_a_search_keeps_the_table_that_allows_the_larger_networks(
    limit_us: int, chosen: str
) -> None:
    run, notes = search(f"{limit_us}us@flat,steep", strategy="random", networks=3)
    assert run.config.budgets == (f"{limit_us}us@{chosen}",)
    (note,) = notes
    assert f"{limit_us}us@flat,steep" in note
    assert f"{limit_us}us@{chosen} allows up to" in note
    for network in run.front:
        assert network.resources[f"latency@{chosen}"] <= limit_us
        assert {"latency@steep", "latency@flat"} <= set(network.resources)


@pytest.mark.usefixtures("place")
def test_the_command_says_its_choice_and_goes_on_with_it() -> None:
    code, stdout, stderr = invoke(*f"{SEARCH} --budget 130us@steep,flat".split())
    assert code == 0, stderr
    assert "the search keeps 130us@flat" in " ".join((stdout + stderr).split())
    assert json.loads(Path("new/config.json").read_bytes())["budgets"] == ["130us@flat"]
    code, stdout, stderr = invoke("status", "new", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["budgets"] == ["130us@flat"]
    code, _, stderr = invoke("search", "--resume", "new")
    assert code == 0, stderr


@pytest.mark.usefixtures("place")
def test_budgets_of_the_same_tables_get_the_same_one() -> None:
    texts = ("130us@steep,flat", "100kFLOPs", "131us@flat,steep:p50")
    with pytest.raises(goldnas.GoldnasError, match="131us@flat:p50"):  # which is hot
        search(*texts)
    run, _ = search(*texts[:2], strategy="random", networks=2)
    assert run.config.budgets == ("130us@flat", "100kFLOPs")


@pytest.mark.usefixtures("place")
def test_a_name_with_a_comma_is_one_table(make_table: MakeTable) -> None:
    make_table(Path("a,b.json"), SPACE)
    settings = {"tables": ["a,b.json"], "strategy": "random", "networks": 2}
    run, notes = search("60us@a,b", **settings)
    assert run.config.budgets == ("60us@a,b",)
    assert not notes


CASES = {
    "no such table": Case(
        f"{SEARCH} --budget 1ms@steep,pi4", "1ms@steep,pi4.*1ms@steep, 1ms@flat"
    ),
    "no name": Case(f"{SEARCH} --budget 1ms@steep,", "1ms@steep,'.*1ms@steep, 1ms@flat"),
    "no latency": Case(
        f"{SEARCH} --budget 1MFLOPs@steep,flat", "1MFLOPs@steep,flat.*leave out"
    ),
    "no unit": Case(f"{SEARCH} --budget 1parsecs@steep,flat", "'1parsecs@steep,flat'"),
    "no network": Case(f"{SEARCH} --budget 1us@steep,flat", "1us@(steep|flat) cannot be met"),
    "two devices": Case(
        f"{SEARCH} --budget 1ms@steep,pi5 --latency-lut pi5.json",
        "steep is of made up, pi5 is of Cortex-A76",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_is_refused(
    case: Case, place: Path, make_table: MakeTable, conditions: Conditions
) -> None:
    other = msgspec.structs.replace(conditions, cpu_model="Cortex-A76")
    make_table(Path("pi5.json"), SPACE, conditions=other)
    assert_refused(case)


def test_energies_are_refused(place: Path, make_energies: MakeTable) -> None:
    make_energies(Path("joules.json"), SPACE)
    assert_refused(
        Case(
            f"{SEARCH} --latency-lut joules.json --budget 1mJ@joules,flat",
            "1mJ@joules,flat.*latencies only",
        )
    )
