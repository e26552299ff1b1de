"""A search in ``mobile`` against the best ready-made network at equal measured milliseconds.

    python benchmarks/beside_ready_made.py --data data/tiny-imagenet --out runs/beside

The limit is what MobileNetV3-small takes on this device for images of 64 pixels, rounded up to
10 microseconds. ``goldnas pick`` finds the ready-made networks within it, ``goldnas search`` a
network of its own. All are trained from scratch: one recipe, as many epochs, the same data and
seeds. At last each network of the pick's front is fine-tuned for an epoch and exported, to hold
what the pick measured against it. Measuring takes minutes and wants an idle machine; each seed
takes half an hour on one core. What is done already is not done again.
"""

import argparse
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STAGES = "[[16,2,2],[24,2,2],[40,3,2],[64,2,1]]"
SPACE = ["--space", "mobile", "--set", f"stages={STAGES}", "--set", "head=640"]
SIDE = 64


def main() -> None:
    """Measure, search and train what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--search-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ready-made", type=int, default=2, help="networks to train")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, a core for each")
    parser.add_argument("--measure-only", action="store_true")
    arguments = parser.parse_args()
    out: Path = arguments.out
    data: Path = arguments.data
    out.mkdir(parents=True, exist_ok=True)

    classes = sum(1 for folder in (data / "train").iterdir() if folder.is_dir())
    table, zoo = out / "here.json", out / "zoo.json"
    if not table.exists():
        shapes = ["--input", f"3x{SIDE}x{SIDE}", "--classes", classes]
        goldnas("profile", *SPACE, *shapes, "--out", table)
    pick = ["pick", "--size", SIDE, "--classes", classes, "--out", zoo, "--json"]
    known = json.loads(goldnas(*pick, "--networks", "mobilenet_v3_small", "--exhaustive"))
    latency_us = known["measured"][0]["network"]["latency_us"]
    limit = f"{math.ceil(latency_us / 10) / 100:.2f}ms"
    picked = json.loads(goldnas(*pick, "--budget", limit, "--front"))
    if arguments.measure_only:
        return

    def run_seed(seed: int) -> None:
        run = out / f"run-{seed}"
        training = ["--epochs", arguments.epochs, "--seed", seed]
        if not run.exists():
            budgets = ["--budget", limit, "--latency-lut", table, "--zoo", zoo]
            images = ["--data", data, "--batch-size", 64, "--threads", 1]
            epochs = ["--epochs", arguments.search_epochs, "--seed", seed]
            goldnas("search", *SPACE, *budgets, *images, *epochs, "--out", run)
        elif not (run / "front.json").exists():
            goldnas("search", "--resume", run)
        goldnas("train", run, "--zoo-train", arguments.ready_made, *training)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(run_seed, arguments.seeds))
    runs = [out / f"run-{seed}" for seed in arguments.seeds]
    for run in runs:
        goldnas("export", run, "--out", out / f"{run.name}.onnx")
    promises = [keep_promise(out, zoo, one["network"], data) for one in picked["front"]]
    compared = json.loads(goldnas("compare", *runs, "--json"))
    print(goldnas("compare", *runs, "--format", "markdown"))
    result = {"limit": limit, "pick": picked, "promises": promises, "compared": compared}
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")


def keep_promise(out: Path, zoo: Path, row: dict[str, Any], data: Path) -> dict[str, Any]:
    """Fine-tune a ready-made network for one epoch, export and measure it."""
    name = row["network"].removeprefix("torchvision/")
    folder = out / f"tuned-{name}"
    recipe = ["--recipe", "fine-tune", "--epochs", 1, "--threads", 1]
    goldnas("train", f"zoo:{name}", "--data", data, *recipe, "--out", folder)
    onnx = ["--out", out / f"{name}.onnx", "--force", "--zoo", zoo, "--json"]
    return {"network": name, **json.loads(goldnas("export", folder, *onnx))}


def goldnas(*words: object) -> str:
    """Run a command and return what it prints; its progress goes to the terminal."""
    command = ["goldnas", *map(str, words)]
    print("$", *command, file=sys.stderr, flush=True)
    program = Path(sys.executable).with_name("goldnas")
    result: Any = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, text=True)
    if result.returncode not in (0, 3):  # 3 says that a budget was broken: report it
        sys.exit(result.returncode)
    return str(result.stdout)


if __name__ == "__main__":
    main()
