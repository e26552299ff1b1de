"""How long the commands take that need no torch: target, under 0.4 s each.

    python benchmarks/startup.py TABLE.json [--runs 10] [--json OUT.json]

Whole processes, the two commands in turn; the medians are the figures to quote.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

TARGET_S = 0.4


def main() -> None:
    """Time each command and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="a latency table, from goldnas profile")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    goldnas = str(Path(sys.executable).with_name("goldnas"))
    commands = {
        "goldnas --help": [goldnas, "--help"],
        "goldnas lut show": [goldnas, "lut", "show", str(arguments.table)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(1 + arguments.runs):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if run:  # the first warms the file cache
                seconds[name].append(time.perf_counter() - began)
    print(f"{'command':20} {'min':>7} {'median':>7} {'max':>7}  seconds, {arguments.runs} runs")
    for name, samples in seconds.items():
        print(f"{name:20} {min(samples):7.3f} {median(samples):7.3f} {max(samples):7.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(seconds, indent=2) + "\n")
    sys.exit(any(max(samples) >= TARGET_S for samples in seconds.values()))


if __name__ == "__main__":
    main()
