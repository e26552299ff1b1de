"""A search on CIFAR-10 under three budgets at once, from the device to the verified network.

    python benchmarks/cifar10_search.py --data data/cifar10.npz --out runs/cifar10

Runs profile, search, evaluate and export; a step whose result is there already is not run
again, and an interrupted search goes on. Prints the table, and writes it with the log and the
figures as JSON to --report.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SPACE = ["--cells", "5", "--channels", "8"]
BUDGETS = {"FLOPs": "10MFLOPs", "params": "70kparams", "latency": "0.7ms"}
EPOCHS = 24


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10: an .npz, or cifar10")
    parser.add_argument("--out", type=Path, required=True, help="folder of the search")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--report", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    run: Path = arguments.out
    table = run.parent / "cpu.json"
    files = run.parent / "net"

    goldnas("profile", *SPACE, "--input", "3x32x32", "--out", table)
    if not run.exists():
        budgets = [word for budget in BUDGETS.values() for word in ("--budget", budget)]
        settings = [*SPACE, *budgets, "--latency-lut", table, "--epochs", arguments.epochs]
        goldnas("search", "--data", arguments.data, *settings, "--out", run)
    elif events(run)[-1]["event"] != "end":
        goldnas("search", "--resume", run)
    networks = json.loads(goldnas("evaluate", run, "--json"))["networks"]
    check = goldnas(
        "export", run, "--out", files / "net.onnx", "--python-out", files / "net.py"
    )
    report(arguments.report, run, networks, check, arguments.data)


def goldnas(*words: object) -> str:
    """Run a command and return what it prints; its progress goes to the terminal."""
    command = ["goldnas", *map(str, words)]
    print("$", *command, file=sys.stderr, flush=True)
    program = Path(sys.executable).with_name("goldnas")
    result = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, text=True)
    print(result.stdout, file=sys.stderr, flush=True)
    if result.returncode not in (0, 3):  # 3 says that a budget was broken: report it
        sys.exit(result.returncode)
    return result.stdout


def events(run: Path) -> list[dict[str, Any]]:
    """The log of a search."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def report(
    folder: Path, run: Path, networks: list[dict[str, Any]], check: str, data: str
) -> None:
    """Print the table, and write it, the figures and the whole log."""
    log = events(run)
    epochs = [event for event in log if event["event"] == "epoch"]
    # By step: after a resumption the log holds some prunings twice.
    prunings = list(
        {event["step"]: event for event in log if event["event"] == "prune"}.values()
    )
    drops = [event["accuracy_before"] - event["accuracy_after"] for event in prunings]
    budgets = json.loads((run / "front.json").read_text())["budgets"]
    final = next(network for network in networks if "end" in network["reasons"])
    figures = {
        "conditions": json.loads((run / "conditions.json").read_text()),
        "config": json.loads((run / "config.json").read_text()) | {"data": data},
        "epoch_hours": sum(event["seconds"] for event in epochs) / 3600,
        "budgets": budgets,
        "share_of_budget": {n: final["resources"][n] / limit for n, limit in budgets.items()},
        "prunings": len(prunings),
        "largest_drop": max(drops),
        "mean_drop": sum(drops) / len(drops),
        "networks": networks,
        "verify": check.strip().splitlines()[-1],
    }
    names = list(budgets)
    lines = [
        "| network | steps | why | validation % | test % | " + " | ".join(names) + " | front |",
        "| --- " * (6 + len(names)) + "|",
    ]
    for network in networks:
        amounts = " | ".join(f"{network['resources'][name]:,.0f}" for name in names)
        lines.append(
            f"| {network['fingerprint']} | {network['step']} "
            f"| {', '.join(network['reasons'])} | {100 * network['accuracy']:.2f} "
            f"| {100 * network['test_accuracy']:.2f} | {amounts} "
            f"| {'' if network['dominated'] else 'yes'} |"
        )
    table = "\n".join(lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cifar10.json").write_text(json.dumps(figures, indent=2) + "\n")
    shutil.copyfile(run / "events.jsonl", folder / "cifar10-events.jsonl")
    print(table)
    for name, share in figures["share_of_budget"].items():
        print(f"{name}: {share:.4f} of its budget")
    print(f"{len(prunings)} prunings, largest drop {100 * max(drops):.2f} %")
    print(figures["verify"])


if __name__ == "__main__":
    main()
