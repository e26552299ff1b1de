"""A step's memory is known before it is taken, and falls as operators go."""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import goldnas
from goldnas.errors import ConfigError
from goldnas.gated_cell import GatedCell
from goldnas.searching import start
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.supernet_learner import build_supernet
from goldnas.spaces import GoldSpace
from goldnas.supernet import SuperNet
from goldnas.training.machine import autocast_for
from goldnas.training.memory import StepMemory, memory_text, step_memory
from nightly import at_night
from scripts import BENCHMARKS, benchmark
from searches import assert_same_results, make_loop, search, stop_search
from workplace import WITHIN, invoke

SCRIPT = BENCHMARKS / "search_throughput.py"
CPU = torch.device("cpu")
SPACE = GoldSpace(cells=3, channels=8, input_shape=(3, 16, 16))


def estimate(config: SearchConfig, supernet: SuperNet) -> StepMemory:
    shape = supernet.space.input_shape
    return step_memory(supernet, shape, CPU, lambda: autocast_for(config, CPU))


def test_the_estimate_leaves_the_super_network_as_it_was() -> None:
    config = SearchConfig(budgets=("1MFLOPs",), checkpointing=True)
    supernet = build_supernet(config, SPACE, CPU, "sigmoid")
    before = copy.deepcopy(supernet.state_dict())
    estimate(config, supernet)
    assert all(torch.equal(value, before[n]) for n, value in supernet.state_dict().items())
    cells = [m for m in supernet.modules() if isinstance(m, GatedCell)]
    assert all(cell.checkpointing and not cell._forward_hooks for cell in cells)


def test_the_estimate_falls_as_operators_go_and_with_bf16_and_checkpointing() -> None:
    settings: dict[str, Any] = {"budgets": ("1MFLOPs",)}
    plain = SearchConfig(**settings)
    supernet = build_supernet(plain, SPACE, CPU, "sigmoid")
    full = estimate(plain, supernet)
    half = estimate(SearchConfig(**settings, amp="bf16"), supernet)
    assert 0.4 < half.image_bytes / full.image_bytes < 0.7
    for cell in supernet.modules():
        if isinstance(cell, GatedCell):
            cell.checkpointing = True
    assert estimate(plain, supernet).image_bytes < 0.6 * full.image_bytes
    for cell in supernet.modules():
        if isinstance(cell, GatedCell):
            cell.checkpointing = False
    heavy = [i for i, g in enumerate(SPACE.gates) if g.operator != "skip_connect"]
    supernet.prune(heavy)
    less = estimate(plain, supernet)
    assert less.image_bytes < 0.5 * full.image_bytes
    assert less.fixed_bytes < full.fixed_bytes


@at_night
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
@pytest.mark.parametrize("share", ["full", "quarter"])
def test_the_estimate_is_what_a_process_grows_by(share: str) -> None:
    module = benchmark("search_throughput")
    _, data, feasibility, _ = module.set_up("8,5,128", [], CPU)
    config = SearchConfig(cells=5, channels=8, budgets=("1GFLOPs",))
    supernet = build_supernet(config, data.space, CPU, "sigmoid")
    left = supernet.active.numpy()
    supernet.prune(module.to_remove(feasibility, left, module.SHARES[share]))
    memory = estimate(config, supernet)
    expected = memory.step_bytes(128) - memory.step_bytes(2)
    command = [sys.executable, SCRIPT, "--case", "8,5,128", "--peak", "goldnas", share]
    # glibc is told to give back what is freed: what it would keep is no need of the step.
    result = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert int(result.stdout) == pytest.approx(expected, rel=0.15)


@at_night
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_a_search_of_300_epochs_needs_no_more_memory_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    command = [sys.executable, BENCHMARKS / "search_memory.py", "--size", "least"]
    subprocess.run([*command, "--json", file], check=True, capture_output=True)
    measured = json.loads(file.read_text())["least"]
    assert len(measured["epoch"]) == 300
    assert len(measured["prune"]) > 20
    for event, mib in measured.items():
        assert max(mib) - mib[len(mib) // 10] < 30, event


def test_the_largest_batch_is_a_power_of_two_that_fits() -> None:
    memory = StepMemory(fixed_bytes=1000, image_bytes=100)
    assert memory.step_bytes(10) == 2000
    assert memory.largest_batch(free_bytes=10**9, num_images=45_000) == 512
    assert memory.largest_batch(free_bytes=10**9, num_images=100) == 64
    assert memory.largest_batch(free_bytes=2 * (1000 + 6400), num_images=45_000) == 64
    for free in range(1800, 40_000, 500):
        batch_size = memory.largest_batch(free, 45_000)
        assert memory.step_bytes(batch_size) <= 0.7 * free < memory.step_bytes(2 * batch_size)
    with pytest.raises(ConfigError, match=r"two images needs .* `checkpointing`"):
        memory.largest_batch(free_bytes=1200, num_images=45_000)


def test_amounts_of_memory_are_written_for_people() -> None:
    assert [memory_text(n) for n in (38 * 2**20, 11.2 * 2**30)] == ["38 MiB", "11.2 GiB"]


# -- in a search -------------------------------------------------------------------------------


@at_night
def test_bf16_and_checkpointing_resume_to_the_same_bits(tmp_path: Path) -> None:
    settings = {
        "epochs": 1,
        "cells": 1,
        "budgets": ("45kFLOPs",),
        "amp": "bf16",
        "checkpointing": True,
    }
    whole = search(tmp_path / "a", **settings)
    stop_search(tmp_path / "b", "step", 3, **settings)
    resumed = goldnas.load_run(tmp_path / "b").resume()
    assert resumed.config.amp == "bf16"
    assert_same_results(whole, resumed)


def test_the_log_shows_the_memory_fall_as_operators_go(tmp_path: Path) -> None:
    events = search(tmp_path / "a", epochs=1).read_events()
    needed = [e["memory_bytes"] for e in events if e["event"] in ("start", "epoch")]
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] < 0.8 * needed[0]
    assert all(e["peak_memory_bytes"] is None for e in events if e["event"] == "epoch")


def test_an_automatic_batch_fits_the_memory_is_recorded_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(tmp_path / "a")  # by 256 images
    needed = loop.learner.step_bytes()
    monkeypatch.setattr(start, "free_bytes", lambda device: needed)
    run = search(tmp_path / "b", epochs=1, batch_size="auto")
    assert run.config.batch_size == 128
    assert run.read_events()[0]["memory_bytes"] <= 0.7 * needed
    monkeypatch.setattr(start, "free_bytes", lambda device: 1000)
    with pytest.raises(ConfigError, match=r"two images needs .* and 0 MiB are free"):
        search(tmp_path / "c", batch_size="auto")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(
            "--accumulate 2", r"a step on 256 images .* \d+ MiB of .*free$", marks=at_night
        ),
        pytest.param("--amp bf16", r"needs about \d+ MiB of .* free, in bf16$", marks=at_night),
        pytest.param(
            "--checkpointing", r"a step on 512 images .* \d+ MiB of .* free$", marks=at_night
        ),
        (
            "--batch-size auto --amp bf16 --checkpointing",
            r"a step on 512 images at once needs about \d+ MiB of .* free, in bf16$",
        ),
    ],
)
def test_a_search_says_what_a_step_needs_before_the_first(
    workplace: Path, options: str, says: str
) -> None:
    code, stdout, stderr = invoke(*shlex.split(f"{WITHIN} {options}"))
    assert code == 0, stderr
    assert re.search(says, stdout, re.MULTILINE), stdout
    config = SearchRun.open(Path("new")).config
    assert config.amp == ("bf16" if "bf16" in options else "off")
    assert config.checkpointing == ("checkpointing" in options)
