"""Picking a ready-made network for the loop of a product: quantiles of single calls."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

import goldnas
from goldnas.architecture import Architecture
from goldnas.deploying.zoo_table import read_zoo_table
from goldnas.errors import ConfigError, TableError
from goldnas.lut import CallQuantile, Conditions
from goldnas.resources import Latency, parse_budget
from goldnas.resources.costs import sum_costs
from goldnas.searching.baselines import is_within, name_latencies
from goldnas.searching.ready_made import match_zoo
from goldnas.spaces import find_space
from goldnas.spaces.zoo import describe_ready_made
from goldnas.zoo.file import CallsInLoop, Failed, Measured, Zoo, load_zoo
from workplace import assert_one_line, invoke
from zoos import write_models, write_network, write_zoo

pytestmark = pytest.mark.usefixtures("quick")

FROM_FILES = ("--zoo", "models", "--accuracies", "accuracies.csv")
NAME = "torchvision/resnet18"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def paced(conditions: Conditions) -> Conditions:
    return msgspec.structs.replace(conditions, loop="paced:15/s")


def quantile(latency_us: float) -> CallQuantile:
    return CallQuantile(latency_us=latency_us, low_us=0.9 * latency_us, high_us=2 * latency_us)


def write_rows(
    path: Path, conditions: Conditions, quantiles_us: Mapping[str, Mapping[str, float]]
) -> Zoo:
    """Write a file of networks that were called in a loop; the first is the most accurate."""
    zoo = Zoo(path, 1000)
    for number, (name, found) in enumerate(quantiles_us.items()):
        networks = {name: (90.0 - number, found["p50"])}
        called = CallsInLoop(calls=300, quantiles={q: quantile(us) for q, us in found.items()})
        (part,) = write_zoo(path, conditions, networks=networks, loop=called).parts
        zoo = zoo.with_rows(conditions, part.rows)
    zoo.save()
    return zoo


def test_networks_are_called_in_the_loop_and_judged_by_a_quantile(place: Path) -> None:
    write_models(place)
    loop = ("--loop", "loaded:1", "--calls", "30")
    code, stdout, stderr = invoke(
        *("pick", *FROM_FILES, *loop, "--budget", "1s:p90", "--out", "zoo.json", "--json")
    )
    assert code == 0, stderr
    assert "p99" in stderr  # is not known of 30 calls
    told = json.loads(stdout)
    chosen = told["choice"]["network"]
    assert chosen["network"] == "large.onnx"
    assert chosen["latency_us"] == chosen["loop"]["quantiles"]["p90"]["latency_us"]
    assert told["latency"] == "p90 of single calls, beside 1 busy process"
    zoo = load_zoo("zoo.json")
    assert [part.conditions.loop for part in zoo.parts] == ["loaded:1"]
    for _, row in zoo.measured():
        assert row.loop
        assert row.loop.calls >= 30
        assert row.latency_us == row.loop.quantiles["p50"].latency_us
        assert row.latency_us <= row.loop.quantiles["p90"].latency_us
    # Again: nothing is measured, for another quantile that is known.
    before = Path("zoo.json").read_bytes()
    code, stdout, stderr = invoke(
        *("pick", *FROM_FILES, *loop, "--budget", "1us", "--out", "zoo.json")
    )
    assert code == 1, stderr
    assert "no network is within 1us; the fastest" in stdout
    assert "latencies are p50 of single calls" in stdout
    assert Path("zoo.json").read_bytes() == before
    # In another loop it is another file.
    for other in ("hot", "loaded:2"):
        code, _, stderr = invoke(
            *("pick", *FROM_FILES, "--loop", other, "--budget", "1s", "--out", "zoo.json")
        )
        assert_one_line(code, stderr, f"loop was loaded:1, is now {other}")
    assert Path("zoo.json").read_bytes() == before


def test_the_choice_keeps_the_quantile_of_the_budget(paced: Conditions) -> None:
    spread = {
        "torchvision/resnet18": {"p50": 800.0, "p90": 900.0, "p99": 9000.0},
        "torchvision/shufflenet_v2_x0_5": {"p50": 850.0, "p90": 900.0, "p99": 950.0},
    }
    write_rows(Path("zoo.json"), paced, spread)
    for budget, name in (
        ("1ms", "resnet18"),
        ("1ms:p90", "resnet18"),
        ("1ms:p99", "shufflenet_v2_x0_5"),
    ):
        found = goldnas.pick(measured="zoo.json", budgets=[budget])
        assert found.choice is not None
        assert found.choice.candidate.network == f"torchvision/{name}"
    row = found.row(found.choice)
    assert isinstance(row, Measured)
    assert row.latency_us == 950
    assert found.latency == "p99 of single calls, at 15 calls a second"
    # A limit within those of the quantile is within the noise.
    found = goldnas.pick(measured="zoo.json", budgets=["0.9ms:p99"])
    assert found.limits_us(row) == (855, 1900)
    assert found.choice is None
    assert [o.candidate.network for o in found.runners_up] == ["torchvision/shufflenet_v2_x0_5"]


def test_networks_without_the_quantile_are_left_out_and_named(paced: Conditions) -> None:
    few = {"p50": 80.0}
    write_rows(Path("zoo.json"), paced, {NAME: few, "torchvision/alexnet": few | {"p99": 90.0}})
    warnings: list[str] = []
    found = goldnas.pick(measured="zoo.json", budgets=["1ms:p99"], on_warning=warnings.append)
    assert found.choice is not None
    assert found.choice.candidate.network == "torchvision/alexnet"
    assert [NAME in text and "p99" in text for text in warnings] == [True]
    write_rows(Path("zoo.json"), paced, {NAME: few})
    code, _, stderr = invoke("pick", "--measured", "zoo.json", "--budget", "1ms:p99")
    assert_one_line(code, stderr, "have no p99: .*--calls 299")


def test_a_rate_that_a_network_cannot_keep_fails_it_with_one_that_it_can(place: Path) -> None:
    write_network(place / "wide.onnx", 96)
    Path("models").mkdir()
    Path("wide.onnx").rename("models/wide.onnx")
    Path("accuracies.csv").write_text("network,accuracy\nwide,50\n")
    code, stdout, stderr = invoke(
        *("pick", *FROM_FILES, "--loop", "paced:10000/s", "--budget", "1s:p99"),
        *("--out", "zoo.json"),
    )
    assert code == 1
    assert "no network is within 1s:p99" in stdout
    assert "cannot keep 10000 calls a second" in stderr
    (row,) = load_zoo("zoo.json").rows("fp32").values()
    assert isinstance(row, Failed)


BAD = {
    "a quantile of hot networks": (("--budget", "1ms:p99"), "1ms:p99 .* measured hot"),
    "too few calls": (
        ("--budget", "1ms:p99", "--loop", "loaded:1", "--calls", "60"),
        "--calls 60 do not bound p99: give --calls 299",
    ),
    "two quantiles": (
        ("--budget", "1ms", "--budget", "2ms:p99", "--loop", "loaded:1"),
        "1ms and 2ms:p99 are of p50 and p99",
    ),
    "a loop that is none": (("--budget", "1ms", "--loop", "often"), "--loop often is not"),
    "calls without a loop": (("--budget", "1ms", "--calls", "60"), "--calls is for a --loop"),
    "a runtime without a loop": (
        ("--budget", "1ms", "--loop", "loaded:1", "--backend", "openvino"),
        "--loop loaded:1 is measured with onnxruntime on a processor",
    ),
    "a bundle": (("--bundle", "new.zip", "--loop", "loaded:1"), "--loop"),
    "a file that was measured": (
        ("--measured", "zoo.json", "--budget", "1ms", "--loop", "loaded:1"),
        "--loop",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_had_is_one_line_and_leaves_files_alone(
    place: Path, conditions: Conditions, name: str
) -> None:
    write_zoo(Path("zoo.json"), conditions)
    words, message = BAD[name]
    code, _, stderr = invoke("pick", *words)
    assert_one_line(code, stderr, message)
    assert [path.name for path in place.iterdir()] == ["zoo.json"]


def test_a_file_whose_rows_are_of_another_loop_is_refused(
    conditions: Conditions, paced: Conditions
) -> None:
    write_zoo(Path("zoo.json"), paced)
    with pytest.raises(TableError, match="the loop"):
        load_zoo("zoo.json")
    called = CallsInLoop(calls=30, quantiles={"p50": quantile(8)})
    write_zoo(Path("zoo.json"), conditions, loop=called)
    with pytest.raises(TableError, match="the loop"):
        load_zoo("zoo.json")


def ready_made() -> Architecture:
    return describe_ready_made(NAME, input_shape=(3, 8, 8))


def test_an_export_is_promised_what_was_measured_in_the_loop(paced: Conditions) -> None:
    write_rows(Path("zoo.json"), paced, {NAME: {"p50": 80.0, "p90": 85.0}})
    space = find_space(ready_made())
    table = read_zoo_table(Path("zoo.json"), ready_made(), "fp32", lambda text: None)
    assert table.conditions.loop == "paced:15/s"
    parts = tuple(space.plan(ready_made()).parts())
    assert sum_costs(Latency(table, space), parts) == 80
    p90 = Latency(table, space, "p90")
    assert sum_costs(p90, parts) == 85
    assert p90.explanation == "p90 of single calls, at 15 calls a second"
    with pytest.raises(TableError, match="has no p99 of zoo/torchvision/resnet18"):
        Latency(table, space, "p99")
    with pytest.raises(ConfigError, match=r"loop='paced:15/s'"):
        read_zoo_table(Path("zoo.json"), ready_made(), "int8", lambda text: None)


def test_a_search_takes_only_networks_of_the_loop_of_its_table(
    conditions: Conditions, paced: Conditions
) -> None:
    write_rows(Path("zoo.json"), paced, {NAME: {"p50": 80.0, "p99": 200.0}})
    space = find_space(ready_made())
    hot = Zoo(Path("cpu.json"), 1000).with_rows(conditions, ()).table("fp32")
    same = Zoo(Path("cpu.json"), 1000).with_rows(paced, ()).table("fp32")
    assert space
    assert hot
    assert same
    with pytest.raises(TableError, match="loop is paced:15/s, and hot in the table"):
        match_zoo(Path("zoo.json"), [hot])
    ((_, row),) = match_zoo(Path("zoo.json"), [same]).zoo.measured()
    amounts = name_latencies(row, "cpu")
    assert is_within(amounts, [parse_budget("0.1ms", ["cpu"])])
    assert not is_within(amounts, [parse_budget("0.1ms:p99", ["cpu"])])
