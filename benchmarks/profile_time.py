"""How long ``goldnas profile`` takes, by number of rows, again, and after a kill.

    python benchmarks/profile_time.py --out profile_time.json

For spaces of more and more operators: the rows alone, then 20 networks besides, then the same
command with nothing left to do. At last a run is killed (SIGKILL) when it is half done, and
run again: how much of the work was kept.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from goldnas.lut import LatencyTable

OPERATORS = (
    "skip_connect,sep_conv_3x3",
    "skip_connect,sep_conv_3x3,max_pool_3x3,dil_conv_3x3",
    "skip_connect,sep_conv_3x3,max_pool_3x3,dil_conv_3x3,avg_pool_3x3,sep_conv_5x5,dil_conv_5x5",
)


def main() -> None:
    """Time each space, then kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=14)
    parser.add_argument("--channels", type=int, default=36)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    program = str(Path(sys.executable).with_name("goldnas"))
    command = [program, "profile", "--cells", str(arguments.cells)]
    command += ["--channels", str(arguments.channels), "--operators"]
    calibrated = ["--networks", str(arguments.networks)]
    rows: list[dict[str, Any]] = []
    print(
        f"{'rows':>5}{'rows alone, s':>15}{'networks, s':>13}{'again, s':>10}{'converged':>11}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for operators in OPERATORS:
            out = Path(folder, f"{operators.count(',')}.json")
            alone = timed([*command, operators, "--out", str(out), "--networks", "0"])
            networks = timed([*command, operators, "--out", str(out), *calibrated])
            again = timed([*command, operators, "--out", str(out), *calibrated])
            table = LatencyTable.load(out)
            converged = sum(getattr(row, "converged", False) for row in table.rows)
            rows.append(
                {
                    "operators": operators,
                    "rows": len(table.rows),
                    "converged": converged,
                    "rows_seconds": alone,
                    "networks_seconds": networks,
                    "again_seconds": again,
                }
            )
            print(
                f"{len(table.rows):5}{alone:15.0f}{networks:13.0f}{again:10.1f}{converged:11}",
                flush=True,
            )
        out = Path(folder, "killed.json")
        whole = rows[0]["rows_seconds"] + rows[0]["networks_seconds"]
        last = [*command, OPERATORS[0], "--out", str(out), *calibrated]
        try:
            subprocess.run(last, capture_output=True, timeout=whole / 2)
            sys.exit("the run ended before it could be killed")
        except subprocess.TimeoutExpired:
            pass  # subprocess has killed it
        rest = timed(last)
        table = LatencyTable.load(out)
        found = f"{len(table.rows)} rows and {len(table.calibrations[0].networks)} networks"
        print(f"killed after {whole / 2:.0f} s; the next run took {rest:.0f} s: {found}")
    if arguments.out:
        record = {"spaces": rows, "killed_after_seconds": whole / 2, "rest_seconds": rest}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
