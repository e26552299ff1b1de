"""Searches on several processes, as torchrun starts them: the same decisions, one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from goldnas import load_run
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.searching.folder import SearchRun
from goldnas.training.distributed import Ranks, init_process_group
from goldnas.training.folder import TrainingFolder
from images import loader, write_shards
from nightly import at_night

HERE = Path(__file__).parent
SEARCH = (
    *("search", "--data", "digits", "--cells", "2", "--channels", "4", "--epochs", "3"),
    *("--budget", "100kFLOPs", "--batch-size", "256", "--auxiliary-weight", "0"),
    *("--train-device", "cpu"),
)
ENVIRONMENT = os.environ | {
    "PYTHONSAFEPATH": "1",
    "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "1",
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="torchrun wants libuv there")


def torchrun(ranks: int, *words: object) -> "subprocess.Popen[str]":
    """Start processes on this machine; stdout and stderr are one."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(ranks), *map(str, words)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )


def goldnas(ranks: int, *words: object) -> "subprocess.Popen[str]":
    return torchrun(ranks, "-m", "goldnas", *words)


def output_of(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=300)[0]


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, output_of(process)
        time.sleep(0.01)


def events_of(folder: Path, event: str) -> list[dict[str, Any]]:
    return [e for e in SearchRun.open(folder).read_events() if e["event"] == event]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Any]]]:
    """What each of two ranks wrote: the fields of its events, by their name."""
    folder = tmp_path_factory.mktemp("ranks")
    write_shards(folder / "shards")
    process = torchrun(2, HERE / "rank_worker.py", folder)
    output = output_of(process)
    assert process.returncode == 0, output
    assert len(list(folder.glob("run/tensorboard/*"))) == 1, "more than one rank logs"
    ranks = []
    for index in range(2):
        events: dict[str, list[Any]] = {}
        for line in (folder / f"{index}.jsonl").read_text().splitlines():
            fields = json.loads(line)
            events.setdefault(fields.pop("event"), []).append(fields)
        ranks.append(events)
    return ranks


def test_every_rank_decides_and_learns_the_same_through_a_whole_search(
    written: list[dict[str, list[Any]]],
) -> None:
    own = ("agreements", "shards")
    first, second = ({k: v for k, v in rank.items() if k not in own} for rank in written)
    assert first == second
    learnt = [step["sha256"] for step in first["learnt"]]
    assert len(set(learnt)) == len(learnt) > 10
    assert first["prune"]
    assert first["beyond"]
    assert [epoch["epoch"] for epoch in first["epoch"]] == [0, 1]


def test_ranks_add_up_to_the_gradient_of_distributed_data_parallel(
    written: list[dict[str, list[Any]]],
) -> None:
    (found,) = written[0]["ddp"]
    assert 0 <= found["difference"] < 1e-6


def test_a_rank_that_is_out_of_memory_makes_all_divide_their_part(
    written: list[dict[str, list[Any]]],
) -> None:
    for rank in written:  # of 256 images each has 128, of which rank 1 has room for 64
        assert rank["out_of_memory"] == [{"step": 1, "images_at_once": 64, "parts": 4}]


def test_ranks_deal_the_images_of_shards_out_evenly(
    written: list[dict[str, list[Any]]], tmp_path: Path
) -> None:
    """As one process sees them, which has them in memory."""
    train = load_dataset(str(write_shards(tmp_path))).train
    alone = loader(train, Augmentation(crop_padding=0))
    first, second = (rank["shards"] for rank in written)
    for epoch, ((images, labels), one, other) in enumerate(
        zip(chain(alone.epoch(0), alone.epoch(1)), first, second, strict=True)
    ):
        assert one["epoch"] == other["epoch"] == epoch
        assert len(one["labels"]) == len(other["labels"]) == 4
        assert one["labels"] + other["labels"] == labels.tolist()
        assert one["pixels"] + other["pixels"] == images[:, 0, 0, 0].tolist()


def test_what_ranks_agree_on(written: list[dict[str, list[Any]]]) -> None:
    (first,), (second,) = (rank["agreements"] for rank in written)
    assert first["told"] == second["told"] == ["returned", "of rank 0"]
    assert first["highest"] == second["highest"] == [1, 5]
    assert first["total"] == second["total"] == 21
    assert (first["in turn"], second["in turn"]) == (["returned", 0], ["returned", 1])
    assert first["do not"] == second["do not"] == ["returned", None]
    # Of an error the first rank speaks; the others end with the status of an error.
    assert first["fails on the first"] == ["RunError", "it failed"]
    assert first["fails on one"] == ["RunError", "rank 1: it failed"]
    kind, text = first["differ"]
    assert kind == "RankError"
    assert text.startswith("after epoch 7, the 2 ranks differ in index: ")
    for name in ("fails on the first", "fails on one", "differ"):
        assert second[name] == ["SystemExit", "2"]


def test_a_search_waits_for_no_import_that_it_does_not_need(
    written: list[dict[str, list[Any]]],
) -> None:
    assert written[0]["imported"] == written[1]["imported"] == [{"slow": []}]


@at_night
def test_a_killed_rank_ends_the_search_which_goes_on_with_two_and_with_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a"
    began = goldnas(2, *SEARCH, "--out", folder)
    wait_for(folder / "front.json", began)
    ranks = subprocess.run(
        ["pgrep", "-P", str(began.pid)], check=True, capture_output=True, text=True
    )
    os.kill(max(map(int, ranks.stdout.split())), signal.SIGKILL)
    output = output_of(began)
    assert began.returncode != 0
    assert "lost contact with the other ranks" in output
    assert f"continue with: goldnas search --resume {folder}" in output

    went_on = goldnas(2, "search", "--resume", folder)
    while len(events_of(folder, "start")) < 2:
        assert went_on.poll() is None, output_of(went_on)
        time.sleep(0.01)
    went_on.send_signal(signal.SIGTERM)  # torchrun passes it on
    output = output_of(went_on)
    assert output.count("interrupted after step") == 1, output
    stopped = torch.load(folder / "checkpoint.pt", weights_only=True)

    load_run(folder).resume()
    starts = events_of(folder, "start")
    assert [event["ranks"] for event in starts] == [2, 2, 1]
    assert starts[1]["step"] >= 5
    assert starts[2]["step"] == stopped["step"] > starts[1]["step"]
    front = SearchRun.open(folder).front()
    assert any("end" in n.reasons and n.meets_budgets for n in front.networks)


def test_one_rank_is_the_same_as_no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # as torchrun does
    monkeypatch.setenv("WORLD_SIZE", "1")
    with init_process_group() as ranks:
        assert type(ranks) is Ranks


@at_night
def test_two_ranks_train_a_front_and_go_on_past_a_network_that_is_broken(
    workplace: Path,
) -> None:
    front = json.loads(Path("run/front.json").read_bytes())
    names = [network["fingerprint"] for network in front["networks"][:3]]
    broken = Path(f"run/architectures/{names[0]}.json")
    broken.write_text("{")
    picks = [word for name in names for word in ("--pick", name)]
    settings = ("--epochs", "2", "--batch-size", "256", "--train-device", "cpu")
    command = ("train", "run", *picks, *settings, "--recipe", "darts-cifar")
    process = goldnas(2, *command)
    output = output_of(process)
    assert process.returncode == 1, output
    assert output.count(f"error: cannot read {broken}: not an architecture") == 1
    folders = [Path(f"run/trained/{name}-darts-cifar-e2-s0") for name in names[1:]]
    for folder in folders:
        opened = TrainingFolder.open(folder)
        assert opened.conditions["ranks"] == 2
        result = opened.result()
        assert result is not None
        assert 0 < result.test_accuracy <= 1
        assert len([e for e in opened.read_events() if e["event"] == "epoch"]) == 2
