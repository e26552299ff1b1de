"""Whether two checkouts of goldnas compute the same, bit for bit.

    python benchmarks/same_results.py record BEFORE [--checkout DIR]
    python benchmarks/same_results.py check BEFORE AFTER [--checkout DIR] [--only TEXT]

``record`` runs some fifty small searches and trainings, by the command line, with the goldnas
of a checkout: every strategy, both schedules, budgets of every kind, other spaces, a task, two
processes, interrupted and resumed. ``check`` runs the same with another checkout, and holds
settings, logs, fronts, weights and printed JSON against what was recorded, but for times. It
also opens the recorded folders with the new code. For a change that must change no result.
"""

import argparse
import difflib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

OWN = """
import goldnas
import torch
from torch import nn
from torch.utils.data import TensorDataset


def space(width=4, classes=4, input_shape=(1, 8, 8)):
    def convolution(size):
        layer = nn.Conv2d(width, width, size, padding=size // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())

    layers = [nn.Conv2d(input_shape[0], width, 3, padding=1), nn.BatchNorm2d(width)]
    for _ in range(3):
        candidates = {f"conv_{s}x{s}": lambda s=s: convolution(s) for s in (1, 3, 5)}
        layers.append(goldnas.Choice(candidates | {"skip": nn.Identity}))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(*layers)


def signals():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 1, 8, 8, generator=random)
    targets = torch.stack([inputs.mean((1, 2, 3)), inputs[:, 0, :4].mean((1, 2))], 1)
    parts = slice(200), slice(200, None)
    return tuple(TensorDataset(inputs[part], targets[part]) for part in parts)


def regression():
    return goldnas.Task(
        loss=nn.functional.mse_loss, metric=lambda o, t: (o - t).square().mean(1), name="mse",
        higher_is_better=False,
    )
"""

SMALL = "search --data digits --cells 2 --channels 4 --batch-size 256 --train-device cpu"
OWN_SPACE = "search --data digits --space own:space --batch-size 256 --train-device cpu"

SEARCHES = {
    "gold": f"{SMALL} --epochs 4 --budget 100kFLOPs",
    "gold-budgets": f"{SMALL} --epochs 4 --budget 120kFLOPs --budget 9kparams",
    "gold-latency": f"{SMALL} --epochs 3 --budget 0.19ms --budget 130kFLOPs "
    "--latency-lut {table}",
    "gold-paper": f"{SMALL} --pace paper --epochs 40 --budget 140kFLOPs --lambda0 0.01",
    "gold-single": f"{SMALL} --epochs 3 --single",
    "gold-single-budget": f"{SMALL} --epochs 3 --single --budget 110kFLOPs",
    "gold-levels": f"{SMALL} --epochs 3 --budget 100kFLOPs --levels 2",
    "gold-augmented": f"{SMALL} --epochs 2 --budget 100kFLOPs --cutout 3 --flip "
    "--crop-padding 2",
    "gold-memory": f"{SMALL} --epochs 2 --budget 100kFLOPs --checkpointing --accumulate 2",
    "gold-bf16": f"{SMALL} --epochs 2 --budget 100kFLOPs --amp bf16",
    "gold-paper-settings": f"{SMALL} --pace paper --epochs 40 --budget 140kFLOPs --mu 0 --n0 3 "
    "--lambda0 0.01 --xi-max 0.1 --gate-learning-rate 0.5",
    "gold-settings": f"{SMALL} --epochs 3 --budget 100kFLOPs --n0 3 --seed 5 "
    "--auxiliary-weight 0.2 --learning-rate 0.1 --validation-fraction 0.2",
    "gold-cells": "search --data digits --cells 5 --channels 4 --batch-size 256 --epochs 2 "
    "--train-device cpu --budget 250kFLOPs --operators skip_connect,sep_conv_3x3,max_pool_3x3",
    "extended": f"{SMALL} --epochs 2 --budget 200kFLOPs --space gold-extended",
    "one-shot": f"{SMALL} --epochs 3 --budget 100kFLOPs --strategy one-shot",
    "one-shot-edges": f"{SMALL} --epochs 2 --budget 100kFLOPs --strategy one-shot --edge-rule",
    "darts1": f"{SMALL} --epochs 3 --budget 100kFLOPs --strategy darts1",
    "darts2": f"{SMALL} --epochs 2 --budget 100kFLOPs --strategy darts2 --edge-rule",
    "random": f"{SMALL} --epochs 2 --budget 100kFLOPs --strategy random --samples 6 "
    "--score supernet",
    "random-one": f"{SMALL} --budget 100kFLOPs --strategy random --samples 1",
    "random-naswot": f"{SMALL} --budget 100kFLOPs --strategy random --samples 6 --score naswot",
    "random-synflow": f"{SMALL} --budget 100kFLOPs --strategy random --samples 6 "
    "--score synflow",
    "evolution": f"{SMALL} --epochs 2 --budget 100kFLOPs --strategy evolution --samples 12",
    "tpe": f"{SMALL} --epochs 1 --budget 100kFLOPs --strategy tpe --samples 8",
    "own": f"{OWN_SPACE} --epochs 3 --budget 40kFLOPs",
    "own-single": f"{OWN_SPACE} --epochs 3 --single --set width=6",
    "own-random": f"{OWN_SPACE} --epochs 2 --strategy random --samples 5 --budget 40kFLOPs",
    "own-darts": f"{OWN_SPACE} --epochs 2 --strategy darts1 --single",
    "task": "search --data own:signals --task own:regression --space own:space --set classes=2 "
    "--train-device cpu --batch-size 64 --epochs 3 --budget 40kFLOPs",
    "mobile": "search --data digits --space mobile --train-device cpu --batch-size 256 "
    "--epochs 1 --single --budget 3MFLOPs --set width=0.25",
}
"""Options of each, but for --out."""

TRAININGS = {
    "scratch": "train {runs}/gold --epochs 2",
    "warm": "train {runs}/gold --warm --epochs 1 --pick 1",
    "recipe": "train {runs}/gold --recipe modern --epochs 2 --validation-fraction 0",
    "darts": "train {runs}/one-shot --recipe darts-cifar --epochs 1 --drop-path 0.3 --seed 3",
    "task": "train {runs}/task --epochs 2",
    "own": "train {runs}/own --epochs 1",
    "genotype": "train DARTS_V2 --data digits --channels 4 --cells 4 --epochs 1 "
    "--batch-size 256",
}

RESUMED = (
    *("gold", "gold-paper", "gold-levels", "gold-single", "one-shot", "darts2", "random"),
    "evolution",
)
"""Searches that are interrupted after an epoch, and go on."""

LOOKS = {
    "evaluate": "evaluate {runs}/gold --json",
    "evaluate-task": "evaluate {runs}/task --json",
    "compare": "compare {runs}/gold {runs}/one-shot {runs}/random {runs}/gold-latency --json",
    "status": "status {runs}/gold --json",
    "lut-show": "lut show {table} --json",
    "lut-lint": "lut lint {table} --json",
}
"""Commands that print JSON."""

TIMES = {
    *("time", "seconds", "memory_bytes", "peak_memory_bytes", "measured_at", "modified"),
    *(
        "search_seconds",
        "minutes",
        "path",
        "folder",
        "table_files",
        "goldnas",
        "started",
        "ended",
    ),
}
"""Fields that may differ."""

RENAMED: dict[str, str] = {
    "pictures": "images",
    "pictures_at_once": "images_at_once",
    "pressure": "penalty_weight",
    "samples": "networks",
}
"""Fields of logs whose names changed: what the recorded ones are called now."""

RENAMED_TEXTS: dict[str, str] = {
    "met --single": "met single",
    "held-out pictures": "held-out images",
    "settings too: samples": "settings too: networks",
}


class Checkout:
    """Runs the commands of one checkout in a folder."""

    def __init__(self, source: Path, folder: Path, table: Path) -> None:
        self.source = source.resolve()
        self.folder = folder.resolve()
        self.table = table.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "own.py").write_text(OWN)
        self.environment = os.environ | {
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": f"{self.source}{os.pathsep}{self.folder}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def start(self, words: str, *, ranks: int = 1) -> "subprocess.Popen[str]":
        """Start a command of goldnas."""
        words = words.format(runs=self.folder / "runs", table=self.table)
        python = [sys.executable, "-m"]
        if ranks > 1:
            python += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
            python.append("-m")
        return subprocess.Popen(
            [*python, "goldnas", *shlex.split(words)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, words: str, *, ranks: int = 1) -> str:
        """Run a command; return what it prints to stdout."""
        process = self.start(words, ranks=ranks)
        printed, said = process.communicate()
        if process.returncode not in (0, 3):
            raise SystemExit(f"goldnas {words}\nstatus {process.returncode}\n{said}")
        return printed

    def interrupted(self, words: str, out: str, resume: str) -> None:
        """Run a command until its first epoch is logged, interrupt it, and go on."""
        process = self.start(f"{words} --out {out}")
        log = self.folder / out / "events.jsonl"
        while not (log.exists() and '"event": "epoch"' in log.read_text()):
            if process.poll() is not None:
                raise SystemExit(f"goldnas {words} ended early:\n{process.communicate()[1]}")
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        process.communicate()
        halfway = self.folder / "halfway" / out
        shutil.rmtree(halfway, ignore_errors=True)
        shutil.copytree(self.folder / out, halfway)
        self.run(resume)


def jobs_of(checkout: Checkout) -> Iterator[tuple[str, Any]]:
    """Searches first; what needs them comes after."""
    for name, words in SEARCHES.items():
        yield f"runs/{name}", lambda n=name, w=words: checkout.run(f"{w} --out runs/{n}")
    for name in ("gold", "random"):
        yield (
            f"ranks/{name}",
            lambda n=name: checkout.run(f"{SEARCHES[n]} --out ranks/{n}", ranks=2),
        )
    for name in RESUMED:
        yield (
            f"resumed/{name}",
            lambda n=name: checkout.interrupted(
                SEARCHES[n], f"resumed/{n}", f"search --resume resumed/{n}"
            ),
        )


def later_jobs_of(checkout: Checkout) -> Iterator[tuple[str, Any]]:
    """Trainings of what the searches left."""
    for name, words in TRAININGS.items():
        yield f"trained/{name}", lambda n=name, w=words: checkout.run(f"{w} --out trained/{n}")
    yield (
        "trained/ranks",
        lambda: checkout.run(f"{TRAININGS['scratch']} --out trained/ranks", ranks=2),
    )
    again = f"{TRAININGS['scratch']} --epochs 6 --out trained/resumed"
    yield (
        "trained/resumed",
        lambda: checkout.interrupted(
            f"{TRAININGS['scratch']} --epochs 6", "trained/resumed", again
        ),
    )


def run_all(checkout: Checkout, only: str) -> None:
    """Run what was not run before, two at a time."""
    for jobs in (jobs_of(checkout), later_jobs_of(checkout)):
        wanted = {
            n: do for n, do in jobs if only in n and not (checkout.folder / n / "done").exists()
        }
        for name in wanted:  # what was cut off is done anew
            shutil.rmtree(checkout.folder / name, ignore_errors=True)
        with ThreadPoolExecutor(2) as pool:
            for name, ended in {n: pool.submit(do) for n, do in wanted.items()}.items():
                ended.result()
                (checkout.folder / name / "done").touch()
                print(name, flush=True)
    if not only:
        prints = {name: checkout.run(words) for name, words in LOOKS.items()}
        (checkout.folder / "printed.json").write_text(json.dumps(prints))


def plain(value: Any) -> Any:
    """A value without times, under today's names."""
    if isinstance(value, dict):
        names = {key: RENAMED.get(key, key) for key in value if key not in TIMES}
        if "networks_tried" in value:  # a status, which has networks besides
            names |= {"samples": "networks_to_try"}
        return {today: plain(value[name]) for name, today in names.items() if name in value}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str):
        for earlier, today in RENAMED_TEXTS.items():
            value = value.replace(earlier, today)
        return value
    return value


def hash_of(path: Path) -> str:
    """Of every tensor and number in a file of torch."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in value:
                found.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for one in value:
                add(one)
        elif isinstance(value, torch.Tensor):
            found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            found.update(repr(value).encode())

    add(torch.load(path, map_location="cpu", weights_only=True))
    return found.hexdigest()[:16]


def contents_of(folder: Path) -> dict[str, Any]:
    """What is compared of a folder, by file."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "checkpoint.pt" or path.is_dir():
            continue
        if path.suffix == ".json":
            found[name] = plain(json.loads(path.read_text()))
        elif path.suffix == ".jsonl" and folder.parent.name not in ("resumed",):
            events = [plain(json.loads(line)) for line in path.read_text().splitlines()]
            if folder.name != "resumed":
                found[name] = events
        elif path.suffix == ".pt":
            found[name] = hash_of(path)
    return found


def differences(before: Any, after: Any) -> list[str]:
    """Lines of a diff."""
    texts = [json.dumps(v, indent=1, sort_keys=True).splitlines() for v in (before, after)]
    return list(difflib.unified_diff(*texts, "before", "after", lineterm="", n=1))


def compare(before: Path, after: Path, only: str) -> int:
    """Hold every folder of one against the other; return how many differ."""
    bad = count = 0
    folders = [p.parent for p in sorted(after.glob("*/*/done")) if only in str(p)]
    for folder in folders:
        name = folder.relative_to(after)
        mine, theirs = contents_of(before / name), contents_of(folder)
        count += len(mine)
        for file in sorted({*mine, *theirs}):
            if mine.get(file) != theirs.get(file):
                bad += 1
                print(f"DIFFERENT {name}/{file}")
                for line in differences(mine.get(file), theirs.get(file))[:25]:
                    print(f"    {line[:200]}")
    for name in RESUMED:
        if (after / "resumed" / name / "front.json").exists():
            whole = plain(json.loads((after / "runs" / name / "front.json").read_text()))
            resumed = plain(json.loads((after / "resumed" / name / "front.json").read_text()))
            count += 1
            if whole != resumed:
                bad += 1
                print(f"DIFFERENT resumed/{name} from uninterrupted")
    if not only:
        mine, theirs = (json.loads((f / "printed.json").read_text()) for f in (before, after))
        for name in LOOKS:
            count += 1
            one, other = (plain(json.loads(p[name])) for p in (mine, theirs))
            one, other = (
                json.loads(
                    json.dumps(v)
                    .replace(str(f.resolve()), "")
                    .replace(str(before.resolve()), "")
                )
                for v, f in ((one, before), (other, after))
            )
            if one != other:
                bad += 1
                print(f"DIFFERENT printed by {LOOKS[name]}")
                print("\n".join(differences(one, other)[:25]))
    print(f"{len(folders)} folders, {count} files and prints compared: {bad} different")
    return bad


def check_old(before: Path, after: Checkout) -> int:
    """Open the recorded folders with the new code: prints must be as they were."""
    bad = 0
    old = Checkout(after.source, before, after.table)
    mine = json.loads((before / "printed.json").read_text())
    for name, words in LOOKS.items():
        told, printed = (plain(json.loads(p)) for p in (mine[name], old.run(words)))
        if told != printed:
            bad += 1
            print(f"DIFFERENT old folder, {words}")
            print("\n".join(differences(told, printed)[:25]))
    print(f"{len(LOOKS)} commands on recorded folders: {bad} different")
    return bad


def check_continued(before: Path, after: Checkout) -> int:
    """Go on with what the other code left halfway: it must come to what that came to."""
    bad = count = 0
    for folder in sorted((before / "halfway").glob("*/*")):
        name = folder.relative_to(before / "halfway")
        going_on = after.folder / "continued" / name
        shutil.rmtree(going_on, ignore_errors=True)
        shutil.copytree(folder, going_on)
        place = shlex.quote(str(going_on))
        words = f"search --resume {place}"
        if name.parts[0] == "trained":
            words = f"{TRAININGS['scratch']} --epochs 6 --out {place}"
        after.run(words)
        mine, theirs = contents_of(before / name), contents_of(going_on)
        for file in sorted({*mine, *theirs} - {"events.jsonl", "conditions.json"}):
            count += 1
            if mine.get(file) != theirs.get(file):
                bad += 1
                print(f"DIFFERENT continued {name}/{file}")
                print("\n".join(differences(mine.get(file), theirs.get(file))[:25]))
    print(f"{count} files of folders that the other code left halfway: {bad} different")
    return bad


def main() -> None:
    """Record, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--only", default="", help="folders whose name has this text")
    arguments = parser.parse_args()
    table = arguments.before / "table.json"
    folder = arguments.before if arguments.action == "record" else arguments.after
    checkout = Checkout(arguments.checkout, folder, table)
    if arguments.action == "record" and not table.exists():
        checkout.run(
            "profile --cells 2 --channels 4 --input 1x8x8 --calibrate 4 "
            f"--out {table.resolve()}"
        )
    run_all(checkout, arguments.only)
    if arguments.action == "check":
        bad = compare(arguments.before, folder, arguments.only)
        bad += 0 if arguments.only else check_old(arguments.before, checkout)
        bad += 0 if arguments.only else check_continued(arguments.before, checkout)
        sys.exit(bool(bad))


if __name__ == "__main__":
    main()
