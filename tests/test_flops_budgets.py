"""The replay of public tables: who chooses by FLOPs, or by another device's times."""

import json
import sys
from pathlib import Path

import pytest

from scripts import benchmark

HEADER = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_gmacs"
)
# Depthwise networks are slow on the first device: 3 times what their FLOPs say.
NETWORKS = {"dense_a": (1.0, 4.0, 60), "dense_b": (2.0, 8.0, 70), "dense_c": (4.0, 16.0, 80)}
DEPTHWISE = {"deep_a": (0.5, 6.0, 65), "deep_b": (1.0, 12.0, 75)}


def write_table(path: Path, scale: float) -> Path:
    """Times of all networks; the depthwise ones take ``scale`` times those above."""
    rows = [
        f"{name},224,1,{ms * (scale if name in DEPTHWISE else 1)},1,{giga}"
        for name, (giga, ms, _) in (NETWORKS | DEPTHWISE).items()
    ]
    path.write_text("\n".join([HEADER, *rows, "batched,224,1,5,64,1", "uncounted,224,1,5,1,"]))
    return path


def test_a_choice_by_flops_breaks_the_limit_of_what_is_slower_than_its_flops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = write_table(tmp_path / "here.csv", 1), write_table(tmp_path / "t.csv", 1 / 3)
    accuracies = [f"{n}.x,224,{p}" for n, (*_, p) in (NETWORKS | DEPTHWISE).items()]
    given = tmp_path / "accuracies.csv"
    given.write_text("\n".join(["model,img_size,top1", *accuracies, "dense_a.old,224,50"]))
    words = ["--tables", here, there, "--accuracies", given, "--json", tmp_path / "o.json"]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, words)])
    benchmark("flops_budgets").main()
    first, second = json.loads((tmp_path / "o.json").read_text())
    assert (first["networks"], second["networks"]) == (5, 5)
    by_flops = first["by"]["FLOPs"]
    for limit, times, points in zip(
        first["limits_ms"],
        by_flops["times_limit"],
        by_flops["points_below_optimum"],
        strict=True,
    ):
        by_hand = [(p, ms) for g, ms, p in (NETWORKS | DEPTHWISE).values() if 4 * g <= limit]
        percent, ms = max(by_hand)
        best = max(p for _, ms, p in (NETWORKS | DEPTHWISE).values() if ms <= limit)
        assert times == pytest.approx(ms / limit, abs=0.001)
        assert points == best - percent
    assert max(by_flops["times_limit"]) > 2
    assert max(second["by"]["FLOPs"]["times_limit"]) <= 1
    assert "over the limit in" in capsys.readouterr().out
