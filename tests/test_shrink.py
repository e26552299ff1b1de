"""Shrinking a trained network: it keeps its budgets, goes on to the bit, leaves a search."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import goldnas
from goldnas.api.tables import LatencyTable
from goldnas.lut import compute_checksum
from goldnas.resources import count_flops
from goldnas.zoo.networks import build_network
from nightly import EXAMPLES, at_night
from searches import assert_same_results, weights_of
from shrinkables import (
    all_grouped,
    asking,
    branching,
    chain,
    growing,
    learnt,
    looked_up,
    mixing,
    residual,
    shared,
    tied,
)
from workplace import Case, assert_refused, invoke, removed

SHAPE, CLASSES = (1, 8, 8), 10
SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 64, "train_device": "cpu"}
OF_FUNCTION: dict[str, Any] = {"weights": "w.pt", "data": "digits", "step": 4, **SETTINGS}
BUDGETS = ["300kFLOPs", "20kparams"]
WORDS = "--epochs 1 --batch-size 64 --train-device cpu --no-report --step 4"

pytestmark = pytest.mark.filterwarnings("ignore::goldnas.GoldnasWarning")


def say_nothing(event: str, fields: dict[str, Any]) -> None:
    pass


def shrink(network: Any = residual, out: str = "new", **settings: Any) -> goldnas.Run:
    given = {**(OF_FUNCTION if callable(network) else SETTINGS), "budgets": BUDGETS, **settings}
    return goldnas.shrink(network, out=out, on_event=say_nothing, **given)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A trained function in ``trained``, its weights, and what shrinking left of it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.save(learnt(lambda: residual(SHAPE, CLASSES)).state_dict(), "w.pt")
        shrink(out="small", epochs=4, batch_size=16)
        run = goldnas.load_run("small")
        goldnas.train(run, out="trained", warm=True, on_event=say_nothing, **SETTINGS)
        yield folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where the process is."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def count(network: nn.Module) -> dict[str, float]:
    network = network.eval()
    return {
        "FLOPs": count_flops(network, SHAPE),
        "params": sum(p.numel() for p in network.parameters()),
    }


def scale_times(content: bytes, factor: float) -> bytes:
    """A file of JSON whose microseconds are so many times as many."""

    def scale(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: scale(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [scale(inner, name) for inner in value]
        return factor * value if name.endswith("_us") and value is not None else value

    scaled = scale(json.loads(content))
    return json.dumps(scaled | {"checksum": compute_checksum(scaled)}).encode()


def prunes(run: goldnas.Run) -> list[dict[str, Any]]:
    return [event for event in run.read_events() if event["event"] == "prune"]


# -- what is left ----------------------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_a_network_becomes_smaller_until_it_keeps_its_budgets() -> None:
    run = goldnas.load_run("small")
    assert run.finished
    assert run.best.resources["FLOPs"] <= 300_000
    assert run.best.resources["params"] <= 20_000
    assert len(run.front) >= 2
    whole = count(residual(SHAPE, CLASSES))
    for network in run.front:
        assert count(network.build()) == network.resources
        assert network.resources["FLOPs"] < whole["FLOPs"]
    assert [n.record.meets_budgets for n in run.front].count(True) == 1
    for event in prunes(run):
        assert event["operators"]
    left = [event["live_operators"] for event in prunes(run)]
    assert left == sorted(left, reverse=True)


@pytest.mark.usefixtures("place")
def test_commands_read_its_folder() -> None:
    best = goldnas.load_run("small").best
    code, stdout, stderr = invoke("status", "small", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["state"] == "ended"
    code, _, stderr = invoke("report", "small", "--out", "page.html")
    assert code == 0, stderr
    page = Path("page.html").read_text()
    assert "goldnas shrink" in page
    assert best.fingerprint in page
    for words in ("status small", "compare small", "evaluate small", "evaluate trained"):
        code, stdout, stderr = invoke(*words.split())
        assert code == 0, stderr
        assert stdout
    code, stdout, stderr = invoke("evaluate", "small", "--json")
    assert code == 0, stderr
    assert best.fingerprint in {n["fingerprint"] for n in json.loads(stdout)["networks"]}


@pytest.mark.usefixtures("place")
def test_what_is_left_is_exported() -> None:
    run = goldnas.load_run("small")
    code, _, stderr = invoke("export", "small", "--out", "net.onnx")
    assert code == 0, stderr
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(1, *SHAPE)
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    network = run.best.build().eval()
    np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("place")
def test_what_is_left_learns_on() -> None:
    kept = torch.load("trained/weights.pt", weights_only=True)
    mine = goldnas.load_run("small").best.build().state_dict()
    assert {n: t.shape for n, t in kept.items()} == {n: t.shape for n, t in mine.items()}
    result = json.loads(Path("trained/result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1
    code, _, stderr = invoke(
        *[
            "train",
            "small",
            "--warm",
            "--epochs",
            "1",
            "--batch-size",
            "512",
            "--train-device",
            "cpu",
        ]
    )
    assert code == 0, stderr
    code, stdout, stderr = invoke("compare", "small", "--json")
    assert code == 0, stderr
    rows = json.loads(stdout)["rows"]
    assert any(row["recipe"] for row in rows)


@pytest.mark.usefixtures("place")
def test_what_is_left_becomes_smaller_again() -> None:
    """Of a search that shrank, and of a training of what that left."""
    for network, out in (("small", "again"), ("trained", "more")):
        run = shrink(network, out=out, budgets=["200kFLOPs"], step=4)
        assert run.best.resources["FLOPs"] <= 200_000
        assert count(run.best.build()) == run.best.resources


def test_a_network_of_a_search_becomes_smaller(workplace: Path) -> None:
    before = goldnas.load_run("run").best
    limit = 0.7 * before.resources["FLOPs"]
    code, stdout, stderr = invoke(
        *("shrink", "run", "--budget", f"{limit:.0f}FLOPs", "--out", "new", *WORDS.split()),
        *("--step", "2", "--json"),
    )
    assert code == 0, stderr
    run = goldnas.load_run("new")
    assert run.best.resources["FLOPs"] <= limit
    assert json.loads(stdout)
    assert count(run.best.build())["FLOPs"] == run.best.resources["FLOPs"]


@pytest.mark.usefixtures("place")
def test_a_network_within_its_budgets_loses_nothing() -> None:
    said: list[str] = []

    def note(event: str, fields: dict[str, Any]) -> None:
        said.extend([fields["text"]] if event == "note" else [])

    run = goldnas.shrink(residual, out="new", budgets=["1GFLOPs"], on_event=note, **OF_FUNCTION)
    assert any("meets 1GFLOPs already" in text for text in said)
    assert not prunes(run)
    (network,) = run.front
    assert network.resources == count(residual(SHAPE, CLASSES))


@pytest.mark.usefixtures("place")
def test_channels_of_mlps_become_fewer() -> None:
    torch.save(mixing(SHAPE, CLASSES).state_dict(), "w.pt")
    run = shrink(mixing, budgets=["20kFLOPs"])
    assert count(run.best.build()) == run.best.resources
    assert run.best.resources["FLOPs"] <= 20_000


# -- again -----------------------------------------------------------------------------------

LONG: dict[str, Any] = {"budgets": ["100kFLOPs"], "epochs": 5, "batch_size": 16, "seed": 1}


@pytest.fixture(scope="module")
def long(made: Path) -> goldnas.Run:
    """Many cuts; blocks go that had become narrower before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        return shrink(out="long", **LONG)


def stop_after(steps: int) -> Callable[[], int]:
    seen: list[int] = []

    def stop() -> int:
        seen.append(1)
        return 15 * (len(seen) == steps)

    return stop


def told(run: goldnas.Run) -> list[dict[str, Any]]:
    """What happened, but for when, and how often it was started."""
    return [
        {name: value for name, value in event.items() if name not in ("time", "seconds")}
        for event in run.read_events()
        if event["event"] != "start"
    ]


@pytest.mark.usefixtures("place")
def test_a_run_goes_on_to_the_same_bits(long: goldnas.Run) -> None:
    cuts = [event["step"] for event in prunes(long)]
    gone = [set(event["operators"]) for event in prunes(long)]
    branches = {"1", "3", "4"}
    assert set.union(*gone) & branches
    stops = (cuts[1], cuts[0] - 3, cuts[-1] + 1)
    for number, steps in enumerate(stops if EXAMPLES else stops[:1]):
        out = f"parts{number}"
        with pytest.raises(goldnas.StoppedError):
            shrink(out=out, stop_signal=stop_after(steps), **LONG)
        torch.manual_seed(99 + number)
        run = goldnas.load_run(out).resume(on_event=say_nothing)
        assert_same_results(long, run)
        assert told(run) == told(long)


@at_night
@pytest.mark.usefixtures("place")
def test_another_seed_is_another_run() -> None:
    settings = {"budgets": ["600kFLOPs"]}
    one, again, other = (
        shrink(out=out, seed=seed, **settings) for out, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert_same_results(one, again)
    mine, theirs = weights_of(one), weights_of(other)
    assert any(n not in theirs or not torch.equal(w, theirs[n]) for n, w in mine.items())


# -- latencies -------------------------------------------------------------------------------


@pytest.mark.usefixtures("place", "quick")
def test_sizes_are_measured_once() -> None:
    """A second run takes the table, and measures nothing."""
    torch.save(chain(SHAPE, CLASSES).state_dict(), "w.pt")
    device = {"device": "cpu", "networks": 6, "target_percent": 100}
    visits: list[int] = []
    first = shrink(
        chain, budgets=["1s"], on_progress=lambda done, total: visits.append(done), **device
    )
    assert visits
    table = LatencyTable.load("new.lut.json")
    assert len(table.last_calibration.networks) == 6
    before = Path("new.lut.json").read_bytes()
    assert not Path("new.lut.json.visits").exists()
    visits.clear()
    (limit_us,) = (v for n, v in first.best.resources.items() if n.startswith("latency"))
    others = {"on_progress": lambda done, total: visits.append(done)}
    settings = {name: value for name, value in OF_FUNCTION.items() if name != "step"}
    run = goldnas.shrink(
        *(chain,), out="b", budgets=["1s", "100kFLOPs"], tables=["new.lut.json"],
        on_event=say_nothing, **settings, **others,
    )  # fmt: skip
    assert not visits
    assert Path("new.lut.json").read_bytes() == before
    assert run.config.settings["step"] == 4  # as it was measured for
    assert 0 < limit_us < 1e6
    code, _, stderr = invoke(
        *f"shrink shrinkables:chain --weights w.pt --data digits {WORDS} --budget 1s".split(),
        *("--budget", "100kFLOPs", "--latency-lut", "b/tables/new.lut.json", "--out", "c"),
    )
    assert code == 0, stderr
    assert_same_results(run, goldnas.load_run("c"))
    assert_refused(
        Case(
            "shrink shrinkables:residual --weights w2.pt --data digits --budget 1ms "
            f"--latency-lut new.lut.json --out d {WORDS}",
            "new.lut.json",
            lambda: torch.save(residual(SHAPE, CLASSES).state_dict(), "w2.pt"),
        )
    )
    # With tables of two runtimes, the budget is by the one in which the network is faster.
    Path("slow.lut.json").write_bytes(scale_times(before, 2.0))
    fast = goldnas.shrink(
        *(chain,), out="e", budgets=["1s@slow.lut,new.lut", "100kFLOPs"],
        tables=["slow.lut.json", "new.lut.json"], on_event=say_nothing, **settings,
    )  # fmt: skip
    assert fast.config.budgets == ("1s@new.lut", "100kFLOPs")
    # What reads tables reads this one, which has no rows.
    assert " error: " not in invoke("lut", "lint", "new.lut.json")[1]
    assert "sizes of shrinkables:chain: step 4" in invoke("lut", "show", "new.lut.json")[1]
    assert table.check(networks=2, seed=1).accuracy.networks == 2
    assert len(table.calibrate(networks=2).last_calibration.networks) == 8


# -- whose code runs -------------------------------------------------------------------------

STRANGE = """
from pathlib import Path
from shrinkables import residual as net
Path(__file__).with_suffix(".ran").touch()
"""


def test_a_strangers_folder_runs_no_code(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that makes the whole network is deep in the settings of what is left."""
    monkeypatch.syspath_prepend(place)
    Path("strange.py").write_text(STRANGE)
    for path in (*Path("small").rglob("*.json"), *Path("trained").glob("*.json")):
        path.write_text(path.read_text().replace("shrinkables:residual", "strange:net"))
    of_search = "--budget 100kFLOPs --epochs 1 --batch-size 512 --train-device cpu --out new"
    for words in (
        *("evaluate small", "export small --out n.onnx", "search --resume small"),
        *("train small --epochs 1", f"shrink small {of_search}"),
        *("evaluate trained", "export trained --out n.onnx", f"shrink trained {of_search}"),
    ):
        assert_refused(Case(words, "strange:net"))
        assert not Path("strange.ran").exists()
    for words in ("status small", "compare small", "report small --out page.html"):
        code, _, stderr = invoke(*words.split())
        assert code == 0, stderr
        assert not Path("strange.ran").exists()
    code, _, stderr = invoke("evaluate", "small", "--trust")
    assert code == 0, stderr
    assert Path("strange.ran").exists()


# -- what is refused -------------------------------------------------------------------------

FUNCTION = "shrinkables:residual --weights w.pt --data digits"
SHUFFLENET = "zoo:shufflenet_v2_x0_5"


def saved(make: Callable[[], nn.Module], path: str = "o.pt") -> Callable[[], object]:
    return lambda: torch.save(make().state_dict(), path)


def of_function(name: str) -> str:
    return f"shrink shrinkables:{name} --weights o.pt --data digits --budget 10kFLOPs --out new"


BAD = {
    "no network": Case("shrink --budget 1kFLOPs --out new", "give a network and a folder"),
    "no folder": Case(f"shrink {FUNCTION} --budget 300kFLOPs", "--out"),
    "a folder that is there": Case(
        f"shrink {FUNCTION} --budget 300kFLOPs --out small", "small"
    ),
    "no budget": Case(f"shrink {FUNCTION} --out new", "--budget"),
    "a budget of nothing known": Case(f"shrink {FUNCTION} --budget 3kg --out new", "3kg"),
    "a latency of nothing": Case(f"shrink {FUNCTION} --budget 3ms --out new", "--device"),
    "a latency of another table": Case(
        f"shrink {FUNCTION} --budget 3ms@pi5 --out new", "--device"
    ),
    "less than the smallest": Case(
        f"shrink {FUNCTION} --budget 1kFLOPs --out new", "1kFLOPs cannot be met"
    ),
    "no such network": Case("shrink nowhere --budget 1kFLOPs --out new", "nowhere"),
    "a network of nobody": Case(
        "shrink shrinkables:nobody --weights w.pt --data digits --budget 1kFLOPs --out new",
        "nobody",
    ),
    "no data": Case(
        "shrink shrinkables:residual --weights w.pt --budget 1kFLOPs --out new", "data"
    ),
    "a function that knows nothing": Case(
        "shrink shrinkables:residual --data digits --budget 300kFLOPs --out new", "--weights"
    ),
    "weights of another function": Case(
        "shrink shrinkables:chain --weights w.pt --data digits --budget 10kFLOPs --out new",
        "w.pt does not fit shrinkables:chain",
    ),
    "weights that are no weights": Case(
        f"shrink {FUNCTION} --budget 300kFLOPs --out new".replace("w.pt", "strange.pt"),
        "cannot read --weights strange.pt",
        lambda: Path("strange.pt").write_bytes(b"hello"),
    ),
    "weights that are not there": Case(
        f"shrink {FUNCTION} --budget 300kFLOPs --out new".replace("w.pt", "no.pt"), "no.pt"
    ),
    "a ready-made network that knows nothing": Case(
        f"shrink {SHUFFLENET} --data digits --budget 300kFLOPs --out new", "weights"
    ),
    "weights for other classes": Case(
        f"shrink {SHUFFLENET} --weights o.pt --data digits --budget 300kFLOPs --out new",
        "no classifier for the 10 classes of digits: train .* first, with these --weights",
        saved(lambda: build_network(SHUFFLENET, SHAPE, 7)),
    ),
    "no such ready-made network": Case(
        "shrink zoo:nothing --weights w.pt --data digits --budget 1kFLOPs --out new", "nothing"
    ),
    "a forward that cannot be followed": Case(
        of_function("branching"), "Flow", saved(lambda: branching(SHAPE, CLASSES))
    ),
    "a forward that takes one number of channels": Case(
        of_function("asking"),
        "fewest channels fails: ValueError: 16 channels, please",
        saved(lambda: asking(SHAPE, CLASSES)),
    ),
    "a forward that does less with fewer channels": Case(
        of_function("growing"), "goes by the number", saved(lambda: growing(SHAPE, CLASSES))
    ),
    "a layer that is called twice": Case(
        of_function("shared"), "'again'", saved(lambda: shared(SHAPE, CLASSES))
    ),
    "a layer that takes whole numbers alone": Case(
        of_function("looked_up"),
        "'shift' cannot be called on its own.* float32",
        saved(lambda: looked_up(SHAPE, CLASSES)),
    ),
    "layers that share a weight": Case(
        of_function("tied"), "'1.0' and '2.0' share", saved(lambda: tied(SHAPE, CLASSES))
    ),
    "nothing may go": Case(
        of_function("all_grouped"),
        "cannot be shrunk",
        saved(lambda: all_grouped(SHAPE, CLASSES)),
    ),
    "a step of all channels": Case(
        f"{of_function('chain')} --step 16", "--step", saved(lambda: chain(SHAPE, CLASSES))
    ),
    "a step of nothing": Case(
        f"shrink {FUNCTION} --budget 1MFLOPs --out new --step 0", "--step"
    ),
    "too few networks for a fit": Case(
        f"shrink {FUNCTION} --budget 1ms --device cpu --networks 3 --out new",
        "--networks 3: a fit needs 4",
    ),
    "no such pick": Case("shrink small --pick 99 --budget 100kFLOPs --out new", "99"),
    "weights besides a folder": Case(
        "shrink small --weights w.pt --budget 100kFLOPs --out new", "--weights"
    ),
    "weights that are gone": Case(
        "shrink trained --budget 100kFLOPs --out new",
        "weights.pt",
        removed("trained/weights.pt"),
    ),
    "a search by that strategy": Case(
        "search --data digits --strategy shrink --budget 20MFLOPs --out new",
        "--strategy shrink .*goldnas shrink",
    ),
    "a search in that space": Case(
        "search --data digits --space shrunk --budget 1MFLOPs --out new", "shrunk"
    ),
    "a table of that space": Case(
        "profile --space shrunk --out new.json", "'shrunk' lacks its network"
    ),
    "no such table": Case(
        f"shrink {FUNCTION} --budget 1ms --latency-lut no.json --out new", "no.json"
    ),
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_one_line(name: str) -> None:
    assert_refused(BAD[name])


def test_settings_of_all_kinds_are_options() -> None:
    code, stdout, _ = invoke("shrink", "--help")
    assert code == 0
    for name in (
        "step",
        "networks",
        "threads",
        "workers",
        "seed",
        "device",
        "target",
        "epochs",
    ):
        assert f"--{name}" in stdout, name


@pytest.mark.usefixtures("place")
def test_a_program_is_told_the_same() -> None:
    for told, settings in {
        "depth": {"depth": 3},
        "budget": {"budgets": []},
        "device": {"budgets": ["1ms"]},
        "step": {"step": 16.5},
        "networks": {"networks": 2},
        "only one of the `tables`": {"tables": ["a.json", "b.json"], "device": "cpu"},
        "'depth'; it takes": {"settings": {"depth": 3}},
        "data": {"data": None},
    }.items():
        with pytest.raises(goldnas.ConfigError, match=told):
            shrink(out="new", **settings)
    for network in (3, None, nn.Identity(), "nowhere", Path("nowhere")):
        with pytest.raises(goldnas.GoldnasError, match="not a trained network"):
            shrink(network, out="new", data="digits", weights="w.pt")
    given: dict[str, Any] = {"out": "new", "data": "digits", "width": 8}
    with pytest.raises(goldnas.ConfigError, match=r"settings={'width': 8}"):
        goldnas.shrink(chain, budgets=["1kFLOPs"], **given)
    with pytest.raises(goldnas.ConfigError, match=r"settings={'width': 8}"):
        goldnas.train(chain, **given)
    with pytest.raises(goldnas.RunError):
        shrink(out="small")
    assert not Path("new").exists()
