"""What a step of a search costs on a machine that does other things too.

    python benchmarks/busy_machine.py [--report FILE]

Trains the super-network of the demo for some seconds, beside jobs that never rest: on a thread
for each core; the same with threads that sleep while they wait, in place of waiting in a loop;
and on as many threads as there are free cores, which is what the commands do. Settings are
interleaved. A step may cost what the share of the cores explains: with J jobs on C cores, 1 +
J / C times the quiet one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
POLICIES = ("all cores", "all cores, sleeping", "free cores")
JOBS = (0, 2, 4)
SECONDS = 5.0

STEPS = """
import sys, time, torch, goldnas
from torch.nn import functional as F
space = goldnas.space("gold", cells=5, channels=8, input_shape=(1, 8, 8), classes=10)
architecture = space.architecture(space.gates)
network = space.build(architecture)
images, labels = torch.randn(96, 1, 8, 8), torch.randint(10, (96,))
def step():
    began = time.monotonic()
    outputs = network(images)
    F.cross_entropy(outputs if torch.is_tensor(outputs) else outputs[0], labels).backward()
    return time.monotonic() - began
for _ in range(3):
    step()
times_s, end = [], time.monotonic() + float(sys.argv[1])
while time.monotonic() < end or len(times_s) < 3:
    times_s.append(step())
print(sum(times_s) / len(times_s))
"""


def measure(policy: str, jobs: int) -> float:
    """Mean seconds of a step beside so many busy jobs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    if policy == "all cores, sleeping":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    if policy == "free cores":
        environment["OMP_NUM_THREADS"] = str(max(1, CORES - jobs))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(jobs)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS, str(SECONDS)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for job in busy:
            job.kill()
            job.wait()
    return float(done.stdout)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--report", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.repeats):
        for jobs in JOBS:
            for policy in POLICIES:
                seconds.setdefault((policy, jobs), []).append(measure(policy, jobs))
                print(policy, jobs, seconds[policy, jobs][-1], file=sys.stderr, flush=True)
    quiet = statistics.median(seconds["all cores", 0])
    print("| jobs | threads on | ms a step | times quiet | of its share |\n|" + " --- |" * 5)
    rows = []
    for (policy, jobs), all_s in sorted(seconds.items(), key=lambda item: item[0][1]):
        median = statistics.median(all_s)
        share = 1 + jobs / CORES
        rows.append(
            {
                "jobs": jobs,
                "policy": policy,
                "each_ms": [1000 * s for s in all_s],
                "times_quiet": median / quiet,
                "times_share": median / quiet / share,
            }
        )
        spread = f"{1000 * min(all_s):.0f} to {1000 * max(all_s):.0f}"
        print(
            f"| {jobs} | {policy} | {1000 * median:.0f} ({spread}) | {median / quiet:.2f} "
            f"| {median / quiet / share:.2f} |"
        )
    if arguments.report:
        found = {"cores": CORES, "measured": time.strftime("%Y-%m-%d"), "rows": rows}
        arguments.report.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
