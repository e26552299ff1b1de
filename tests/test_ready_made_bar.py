"""``--zoo``: a search is held against ready-made networks within the same budgets."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import goldnas
from compared import trained
from goldnas.comparison.verdict import compute_chance
from goldnas.lut import Conditions, LatencyTable
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import PreparedSearch
from workplace import SPACE, assert_one_line, invoke, on_disk
from workplace import goldnas as run_command
from zoos import NETWORKS, write_zoo

SETTINGS = "--data digits --cells 2 --channels 4 --latency-lut cpu.json --train-device cpu"
TRAINED = "--epochs 1 --batch-size 512 --auxiliary-weight 0"
UNTRAINED = "--strategy random --networks 2 --score synflow"
SEARCH = f"search {SETTINGS} {TRAINED} --budget 0.2ms --out new"
WITH_ZOO = f"{SEARCH} --zoo pi.json"
RESNET, SHUFFLENET = "torchvision/resnet18", "torchvision/shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def searched(
    tmp_path_factory: pytest.TempPathFactory,
    make_table: Callable[..., LatencyTable],
    conditions: Conditions,
) -> tuple[Path, str]:
    """A folder with a table, a zoo and a search, ``run``; and what the search printed."""
    folder = tmp_path_factory.mktemp("bar")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_table(Path("cpu.json"), SPACE)
        write_zoo(Path("pi.json"), conditions)
        code, stdout, stderr = invoke(*WITH_ZOO.replace("new", "run").split())
        assert code == 0, stderr
    return folder, stdout + stderr


@pytest.fixture
def folder(searched: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    copy = tmp_path / "bar"
    shutil.copytree(searched[0], copy)
    monkeypatch.chdir(copy)
    return copy


def read_json(*arguments: str) -> dict[str, Any]:
    code, stdout, stderr = invoke(*arguments, "--json")
    assert code == 0, stderr
    content: dict[str, Any] = json.loads(stdout)
    return content


def train_by_hand(results: dict[str, list[float]]) -> None:
    """Write trainings of the best network, or a ready-made one, that never ran."""
    run = SearchRun.open(Path("run"))
    assert run.baselines is not None
    names = {one.network: one.fingerprint for one in run.baselines.within}
    names["best"] = run.front().pick("best").fingerprint
    for name, accuracies in results.items():
        for seed, accuracy in enumerate(accuracies):
            trained(run, names[name], accuracy, seed=seed)


# -- the search --------------------------------------------------------------------------------


def test_a_search_ends_with_the_ready_made_networks_within_its_budgets(
    searched: tuple[Path, str],
) -> None:
    _, said = searched
    assert "resnet18" in said
    assert "shufflenet_v2_x0_5" in said
    assert "regnet_y_400mf" not in said  # over the latency
    assert "2 ready-made networks are within the budgets" in said
    assert "goldnas train run --zoo-train 1" in said
    assert said.count("latencies are for networks with 1000 classes, and digits has 10") == 1


def test_flops_and_parameters_are_counted_for_the_data(folder: Path) -> None:
    found = {one.name: one for one in goldnas.load_run("run").ready_made}
    assert list(found) == [RESNET, SHUFFLENET]  # the most accurate first
    resources = found[RESNET].resources
    # 1 channel in place of 3 in the first convolution, 10 classes in place of 1000.
    assert resources["params"] == 11_689_512 - 2 * 64 * 49 - 990 * 513
    assert resources["FLOPs"] == 11_655_168
    assert resources["latency@cpu"] == 150.0
    settings = found[RESNET].architecture.settings
    assert (settings["input_shape"], settings["classes"]) == ([1, 8, 8], 10)


class KilledError(Exception):
    """Stands for whatever ends a process."""


def begin(out: str, *, at: str = "begin", **settings: Any) -> goldnas.Run:
    """A search of which the process ends when an event comes."""

    def kill(event: str, fields: dict[str, Any]) -> None:
        if event == at:
            raise KilledError

    given = {"budgets": ["0.2ms"], "tables": ["cpu.json"], "zoo": "pi.json", "out": out}
    with pytest.raises(KilledError):
        goldnas.search(SPACE, on_event=kill, train_device="cpu", **given | settings)
    return goldnas.load_run(out)


def test_a_network_over_flops_or_parameters_is_left_out(folder: Path) -> None:
    (one,) = begin("new", budgets=["0.2ms", "1Mparams"]).ready_made
    assert one.name == SHUFFLENET
    assert begin("newer", budgets=["0.2ms", "200kFLOPs"]).ready_made == []


def test_the_folder_keeps_the_zoo_from_its_first_moment_and_goes_on_with_it(
    folder: Path,
) -> None:
    run = begin("killed")
    Path("pi.json").unlink()
    assert len(run.ready_made) == 2
    loop = PreparedSearch.resume(SearchRun.open(Path("killed")).read())
    loop.run.release()
    code, stderr = run_command("search --resume run --zoo other.json")
    assert_one_line(code, stderr, "--zoo cannot change a search")


def test_another_protocol_is_no_other_condition(folder: Path, conditions: Conditions) -> None:
    protocol = msgspec.structs.replace(conditions.protocol, name="whole networks", rounds=2)
    of_conditions(protocol=protocol)(conditions)
    assert len(begin("new").ready_made) == 2


def test_the_device_of_another_table_is_not_known(
    folder: Path, make_table: Callable[..., LatencyTable], conditions: Conditions
) -> None:
    slow = msgspec.structs.replace(conditions, cpu_model="slow")
    make_table(Path("slow.json"), SPACE, conditions=slow)
    run = begin("new", tables=["slow.json", "cpu.json"], budgets=["0.2ms@cpu", "1ms@slow"])
    found = run.folder.baselines
    assert found is not None
    assert [one.network for one in found.within] == [RESNET, SHUFFLENET]
    assert any(
        "not known whether ready-made networks keep 1ms@slow" in note for note in found.notes
    )


def test_what_was_not_measured_to_its_end_is_left_out_and_said(
    folder: Path, conditions: Conditions
) -> None:
    write_zoo(Path("pi.json"), conditions, complete=False)
    found = begin("new").folder.baselines
    assert found is not None
    assert found.within == ()
    assert any("2 ready-made networks may be within the latency" in n for n in found.notes)


def test_a_zoo_beside_the_table_is_said_and_not_taken(
    folder: Path, conditions: Conditions
) -> None:
    Path("pi.json").rename("zoo.json")
    search = f"search {SETTINGS} {UNTRAINED} --budget 0.2ms --no-report --out"
    code, stderr = run_command(f"{search} new")
    assert code == 0, stderr
    assert stderr.count("zoo.json has ready-made networks") == 1
    assert "--zoo zoo.json" in stderr
    assert not Path("new", "zoo.json").exists()
    write_zoo(Path("zoo.json"), msgspec.structs.replace(conditions, cpu_model="another"))
    code, stderr = run_command(f"{search} newer")
    assert code == 0, stderr
    assert "zoo.json" not in stderr


# -- what is refused ---------------------------------------------------------------------------


def of_conditions(**changes: Any) -> Callable[[Conditions], object]:
    return lambda conditions: write_zoo(
        Path("pi.json"), msgspec.structs.replace(conditions, **changes)
    )


def edited(old: bytes, new: bytes) -> Callable[[Conditions], object]:
    path = Path("pi.json")
    return lambda conditions: path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: Path("pi.json").unlink(), "there is no file pi.json"),
        (lambda _: Path("pi.json").write_text("{"), "pi.json holds no ready-made networks"),
        (edited(b"150.0", b"15.0"), "it was edited or damaged"),
        (edited(b'"schema_version": 1', b'"schema_version": 2'), "reads up to 1.*Upgrade"),
        (of_conditions(cpu_model="b"), "latency table cpu .*: cpu_model is b, and made up"),
        (of_conditions(threads=4, batch=8), "threads is 4, and 1 in .* batch is 8, and 1 in"),
        (of_conditions(backend="onnxruntime 9"), "backend is onnxruntime 9, and onnxruntime 0"),
        (of_conditions(precision="int8"), "precision is int8, and fp32 in the table"),
        (
            lambda conditions: write_zoo(Path("pi.json"), conditions, size=32),
            "no network for images of 8 pixels.*goldnas pick --size 8 --budget 0.2ms",
        ),
    ],
)
def test_a_zoo_that_is_no_measure_is_refused_in_one_line(
    folder: Path,
    conditions: Conditions,
    spoil: Callable[[Conditions], object],
    message: str,
) -> None:
    spoil(conditions)
    before = on_disk()
    code, stderr = run_command(WITH_ZOO)
    assert_one_line(code, stderr, message)
    assert on_disk() == before


def test_a_zoo_without_a_table_is_refused(folder: Path) -> None:
    command = WITH_ZOO.replace("--latency-lut cpu.json", "").replace("0.2ms", "100kFLOPs")
    code, stderr = run_command(command)
    assert_one_line(code, stderr, "this search has no table: give one in --latency-lut")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("zoo.json", "150.0", "15.0"),
        ("baselines.json", "resnet18", "resnet34"),
        ("baselines.json", '"cpu"', '"gpu"'),
        ("zoo.json", "", None),
        ("baselines.json", "", None),
    ],
)
def test_a_spoilt_copy_in_the_folder_is_refused(
    folder: Path, name: str, old: str, new: str | None
) -> None:
    path = Path("run", name)
    if new is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace(old, new))
    for command in (
        ("status", "run"),
        ("compare", "run"),
        ("train", "run", "--zoo-train", "1"),
    ):
        code, _, stderr = invoke(*command)
        assert_one_line(code, stderr, name)


# -- what is shown -----------------------------------------------------------------------------


def test_status_lists_them(folder: Path) -> None:
    _, stdout, _ = invoke("status", "run")
    assert f"{RESNET}, 150 us measured on cpu's device" in stdout
    found = read_json("status", "run")
    assert [one["network"] for one in found["ready_made"]] == [RESNET, SHUFFLENET]
    assert found["ready_made"][0]["measured_us"] == 150.0
    assert "train both alike" in found["verdicts"][0]


def test_compare_has_rows_of_them_without_any_accuracy_elsewhere(folder: Path) -> None:
    content = read_json("compare", "run")
    best, *others = content["rows"]
    assert best["network"] == "best"
    assert [(row["strategy"], row["network"]) for row in others] == [
        ("ready-made", RESNET),
        ("ready-made", SHUFFLENET),
    ]
    values = others[0]["values"]
    assert values["measured_us@cpu"]["values"] == [150.0]
    assert values["predicted_us@cpu"] == {"missing": "not predicted"}
    assert values["test_accuracy"] == {"missing": "not trained"}
    assert values["validation_accuracy"] == {"missing": "not searched"}
    assert "69.76" not in json.dumps(content["rows"])
    assert any("69.76 %, estimated" in note for note in content["notes"])


def test_what_all_rows_lack_is_said_once(folder: Path) -> None:
    Path("run", "events.jsonl").unlink()  # so that nothing is known of cuts
    code, stdout, stderr = invoke("compare", "run")
    assert code == 0, stderr
    assert stdout.count("largest drop, all drops: nothing cut") == 1
    assert "| largest drop" not in stdout


def test_the_report_shows_them_in_the_table_and_the_charts(folder: Path) -> None:
    train_by_hand({"best": [0.9], RESNET: [0.8]})
    code, _, stderr = invoke("report", "run")
    assert code == 0, stderr
    page = Path("run", "report.html").read_text()
    lead, _, rest = page.partition('<section id="front">')
    assert "the search wins by 10.00 points" in lead
    assert lead.index("the search wins") < lead.index("A search on")
    table = rest.partition('<table id="ready-made">')[2].partition("</table>")[0]
    assert table.index(RESNET) < table.index("80.00 %") < table.index(SHUFFLENET)
    charts = rest.partition('<table id="networks">')[0]
    assert charts.count(">shufflenet_v2_x0_5</text>") == 2  # FLOPs, latency
    assert charts.count(">resnet18</text>") == 1  # its FLOPs and parameters are far away
    assert "--zoo run/zoo.json" in rest


# -- like with like ----------------------------------------------------------------------------


def test_train_trains_them_alike_and_compare_says_who_wins(folder: Path) -> None:
    code, stdout, stderr = invoke(
        *("train", "run", "--zoo-train", "2", "--epochs", "1", "--seed", "3"),
        *("--batch-size", "256", "--train-device", "cpu"),
    )
    assert code == 0, stderr
    assert "goldnas compare run" in stdout
    content = read_json("compare", "run")
    best, *others = content["rows"]
    assert [row["network"] for row in others] == [RESNET, SHUFFLENET]
    for row in (best, *others):
        assert (row["recipe"], row["epochs"], row["warm"]) == ("short", 1, False)
        assert row["searches"][0]["training_seeds"] == [3]
        assert len(row["values"]["test_accuracy"]["values"]) == 1
    assert "wins by" in content["verdicts"][0]
    assert "with two or more seeds" in content["verdicts"][0]
    configs = [json.loads(p.read_text()) for p in Path("run/trained").glob("*/config.json")]
    assert len(configs) == 3
    assert len({json.dumps(one, sort_keys=True) for one in configs}) == 1  # like with like


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("run", "--zoo-train", "3"), "2 ready-made networks .* give --zoo-train 2"),
        (("run", "--zoo-train", "1", "--warm"), "--zoo-train trains from scratch"),
        (("cpu.json", "--zoo-train", "1"), "--zoo-train cannot be given with cpu.json"),
    ],
)
def test_what_cannot_be_trained_alike_is_refused(
    folder: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, stderr = invoke("train", *options)
    assert_one_line(code, stderr, message)
    assert not Path("run", "trained").exists()


def test_a_search_without_a_zoo_has_none_to_train(folder: Path) -> None:
    for name in ("zoo.json", "baselines.json"):
        Path("run", name).unlink()
    code, _, stderr = invoke("train", "run", "--zoo-train", "1")
    assert_one_line(code, stderr, "run has no ready-made networks: search with --zoo")
    found = read_json("status", "run")
    assert found["ready_made"] is None
    assert found["verdicts"] == []
    assert read_json("compare", "run")["verdicts"] == []


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (
            {"best": [0.90, 0.91, 0.92], RESNET: [0.80, 0.81, 0.82]},
            [
                "the search wins by 10.00 points",
                "That is beyond the spread of the seeds",
                "p =",
            ],
        ),
        (
            {"best": [0.80, 0.81, 0.82], RESNET: [0.90, 0.91, 0.92], SHUFFLENET: [0.85, 0.86]},
            [
                "the ready-made network wins by 10.00 points",
                RESNET,
                "That is beyond the spread",
            ],
        ),
        (
            {"best": [0.80, 0.90, 0.85], RESNET: [0.84, 0.89, 0.88]},
            [
                "the ready-made network wins by 2.00 points",
                "within the spread",
                "not below 0.05",
            ],
        ),
        ({"best": [0.9], RESNET: [0.8]}, ["wins by 10.00 points", "with two or more seeds"]),
        ({"best": [0.9], RESNET: [0.9]}, ["neither wins"]),
        ({RESNET: [0.9]}, ["data: train both alike"]),
    ],
)
def test_the_verdict_says_by_how_much_and_whether_it_is_chance(
    folder: Path, results: dict[str, list[float]], verdict: list[str]
) -> None:
    train_by_hand(results)
    content = read_json("compare", "run")
    (said,) = content["verdicts"]
    for part in verdict:
        assert part in said
    _, stdout, _ = invoke("compare", "run")
    assert f"- {said}" in stdout
    for row in content["rows"]:
        values = results.get(row["network"])
        if values:
            assert row["values"]["test_accuracy"]["values"] == values


def test_the_chance_is_that_of_welch() -> None:
    stats = pytest.importorskip("scipy.stats")
    some, others = (0.80, 0.90, 0.85), (0.84, 0.89, 0.88, 0.91)
    expected = stats.ttest_ind(some, others, equal_var=False).pvalue
    assert compute_chance(some, others) == pytest.approx(expected)
    assert compute_chance((0.5, 0.5), (0.6, 0.6)) == 0
    assert compute_chance((0.5, 0.5), (0.5, 0.5)) == 1


def test_the_networks_of_the_file_are_real() -> None:
    assert {RESNET, SHUFFLENET} < NETWORKS.keys()
