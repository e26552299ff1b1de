"""Whatever is in a file of a run's folder or of an export, commands read it or refuse it."""

import contextlib
import datetime
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from fuzzing import (
    Target,
    odd_value,
    spoil_bytes,
    spoil_json,
    spoil_lines,
    spoil_value,
)
from goldnas.api.shrinks import shrink
from goldnas.api.trainings import train
from goldnas.errors import StoppedError
from goldnas.searching.folder import SearchRun
from goldnas.searching.measured import Measurement, keep_measured
from goldnas.searching.start import PreparedSearch
from goldnas.spaces import GoldSpace
from goldnas.training.start import NetworkLoop
from goldnas.zoo.networks import build_network
from scripts import benchmark
from searches import search, stop_search
from trainings import fine_tuned, prepared
from workplace import goldnas
from zoos import write_zoo

SMALL = {"cells": 1, "batch_size": 768, "auxiliary_weight": 0.0, "budgets": ("40kFLOPs",)}
READY_MADE = "zoo:shufflenet_v2_x0_5"
TWO_EPOCHS = {"epochs": 2, "batch_size": 768}


def write_good(folder: Path) -> None:
    """Write a search with a training that is done, two that were stopped, and two trainings.

    The first is held against ready-made networks.
    """
    with contextlib.chdir(folder):
        space = GoldSpace(cells=1, channels=4, input_shape=(1, 8, 8))
        table = benchmark("report_size").made_up_table(Path("device.json"), space)
        write_zoo(Path("ready-made.json"), table.conditions)
        zoo: dict[str, Any] = {"tables": [table], "zoo": "ready-made.json"}
        search(Path("run"), **SMALL | zoo | {"budgets": ("160us",)}, epochs=1)
        code, said = goldnas("train run --epochs 1 --batch-size 768 --train-device cpu")
        assert code == 0, said
        stop_search(Path("stopped"), "step", 3, **SMALL, epochs=2)
        sampling = {"strategy": "random", "networks": 4, "epochs": 1}
        stop_search(Path("sampled"), "score", 2, **SMALL, **sampling)
        training = prepared("run", "training", epochs=2, batch_size=768)
        training.train_step(*next(iter(training.data.batches(0))))
        training.end_step()
        training.checkpoints.save()
        state = build_network(READY_MADE, (1, 8, 8), 10).state_dict()
        torch.save(state, "weights.pt")
        shrunk = {"epochs": 2, "batch_size": 256, "train_device": "cpu", "step": 2}
        with contextlib.suppress(StoppedError):
            shrink("run", budgets=("20kFLOPs",), out="shrunk", stop_signal=stop_at(8), **shrunk)
        training = ready_made()
        training.train_step(*next(iter(training.data.batches(0))))
        training.end_step()
        training.checkpoints.save()
        Path("weights.pt").unlink()
        (trained,) = Path("run", "trained").iterdir()
        trained.rename("run/trained/done")
        first = SearchRun(Path("run")).front().networks[0].fingerprint
        measured = Measurement(
            predicted_us=1.0,
            measured_us=2.0,
            precision="fp32",
            machine="made up",
            measured_at=datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
        )
        keep_measured(Path("run"), first, {"cpu": measured})
        # A name that is known before there is a fingerprint.
        for path in (
            f"measured/{first}.json",
            f"architectures/{first}.json",
            f"weights/{first}.pt",
        ):
            link = Path("run", path)
            link.rename(link.with_name("first" + link.suffix))
            link.symlink_to("first" + link.suffix)


def stop_at(steps: int) -> Callable[[], int]:
    """A signal after a number of steps."""
    left = iter([0] * (steps - 1))
    return lambda: next(left, 15)


def ready_made() -> NetworkLoop:
    return fine_tuned("ready", READY_MADE, "digits", "weights.pt", **TWO_EPOCHS)


def fine_tune_on() -> None:
    """Go on with the training of a ready-made network, for a step, without its weights."""
    train(
        READY_MADE,
        data="digits",
        weights="weights.pt",
        recipe="fine-tune",
        out="ready",
        stop_signal=lambda: 15,
        train_device="cpu",
        **TWO_EPOCHS,
    )


def resume(name: str) -> None:
    """Go on with a search, for a step."""
    loop = PreparedSearch.resume(SearchRun.open(Path(name)).read())
    loop.stop_signal = lambda: 15
    loop.train()


def resume_stopped() -> None:
    resume("stopped")


def resume_shrunk() -> None:
    resume("shrunk")


def resume_sampled() -> None:
    resume("sampled")


def train_on() -> None:
    """Go on with a training, for a step."""
    loop = prepared("run", "training", epochs=2, batch_size=768)
    loop.stop_signal = lambda: 15
    loop.train()


def spoil_settings(random: Random, content: bytes) -> bytes:
    """Change settings, but ask for nothing that is only large."""
    spoilt = spoil_json(random, content)
    with contextlib.suppress(ValueError, AttributeError, TypeError, RecursionError):
        told = json.loads(spoilt)
        if 64 < told.get("channels", 0) <= 1024 or 4 < told.get("threads", 0) <= 1024:
            return content
    return spoilt


def spoil_tensors(random: Random, content: bytes) -> bytes:
    """Change plain values, types or shapes of what torch saved."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    plain = {name: value for name, value in state.items() if name in PLAIN}
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        if plain and random.random() < 0.6:  # there are few of them, among many tensors
            plain = spoil_value(random, plain, odd_value)
            state = {n: v for n, v in state.items() if n not in PLAIN}
            state = state | plain if isinstance(plain, dict) else plain
        else:
            state = spoil_value(random, state, odd_in_state)
        if not isinstance(state, dict):
            break
        plain = {name: value for name, value in state.items() if name in PLAIN}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def odd_in_state(random: Random) -> Any:
    """What nobody expects in a checkpoint."""
    shape = random.choice([(), (0,), (1,), (3,), (4, 4, 3, 3), (16, 4, 1, 1), (5056,)])
    match random.randrange(8):
        case 0:
            return torch.full(shape, random.choice([math.nan, math.inf, 1e38, -1.0]))
        case 1:
            kind = random.choice([torch.int64, torch.uint8, torch.bool])
            return torch.zeros(shape, dtype=kind)
        case 2:
            kind = random.choice([torch.float64, torch.complex64, torch.bfloat16])
            return torch.zeros(shape, dtype=kind)
        case 3:
            return torch.zeros(1).expand(10**9)
        case 4:
            return torch.zeros(3).to_sparse()
    return odd_value(random)


PLAIN = ("epoch", "step", "losses", "setbacks", "at_once", "strategy", "seconds")
"""What checkpoints have besides tensors."""

LOOKED_AT = (
    "status run",
    "status run --json",
    "report run --out page.html",
    "compare run",
    "compare run --json",
)
JSON = (spoil_json, spoil_json, spoil_json, spoil_bytes)
SETTINGS = (spoil_settings, spoil_settings, spoil_bytes)
TENSORS = (spoil_tensors, spoil_tensors, spoil_bytes)
TARGETS = (
    Target("run/config.json", JSON, (*LOOKED_AT, "evaluate run")),
    Target("run/conditions.json", JSON, (*LOOKED_AT, "export run --out net.py")),
    Target("run/events.jsonl", (spoil_lines, spoil_lines, spoil_bytes), LOOKED_AT),
    Target("sampled/events.jsonl", (spoil_lines,), ("status sampled", "report sampled")),
    Target("run/front.json", JSON, (*LOOKED_AT, "evaluate run")),
    Target("run/architectures/first.json", JSON, ("report run", "evaluate run")),
    Target(
        "run/weights/first.pt", TENSORS, ("evaluate run", "export run --pick 1 --out net.py")
    ),
    Target("run/measured/first.json", JSON, ("status run", "compare run", "report run")),
    Target("run/zoo.json", JSON, (*LOOKED_AT, "train run --zoo-train 9")),
    Target("run/baselines.json", JSON, (*LOOKED_AT, "train run --zoo-train 9")),
    Target("run/trained/done/result.json", JSON, (*LOOKED_AT, "evaluate run/trained/done")),
    Target("run/trained/done/config.json", JSON, (*LOOKED_AT, "evaluate run/trained/done")),
    Target("run/trained/done/architecture.json", JSON, ("evaluate run/trained/done",)),
    Target("run/trained/done/weights.pt", TENSORS, ("evaluate run/trained/done",)),
    Target("stopped/config.json", SETTINGS, (resume_stopped,)),
    Target("stopped/conditions.json", SETTINGS, (resume_stopped,)),
    Target("stopped/events.jsonl", (spoil_lines, spoil_bytes), (resume_stopped,)),
    Target("stopped/checkpoint.pt", TENSORS, (resume_stopped,)),
    Target("sampled/checkpoint.pt", TENSORS, (resume_sampled,)),
    Target("shrunk/config.json", JSON, (resume_shrunk, "status shrunk")),
    Target("shrunk/checkpoint.pt", TENSORS, (resume_shrunk,)),
    Target("shrunk/weights/whole.pt", TENSORS, (resume_shrunk,)),
    Target("training/config.json", SETTINGS, (train_on,)),
    Target("training/conditions.json", SETTINGS, (train_on,)),
    Target("training/checkpoint.pt", TENSORS, (train_on,)),
    Target("ready/config.json", SETTINGS, (fine_tune_on,)),
    Target("ready/architecture.json", JSON, (fine_tune_on,)),
    Target("ready/checkpoint.pt", TENSORS, (fine_tune_on,)),
)
