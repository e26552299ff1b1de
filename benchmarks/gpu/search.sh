#!/usr/bin/env bash
# All that is claimed of a GPU, in one command:
#
#     bash benchmarks/gpu/search.sh
#
# 1. the throughput of a step beside per-operator super-networks, at batch 96 and 512;
# 2. whether images are loaded as fast as the step consumes them;
# 3. a whole search on CIFAR-10 (36 channels, 14 cells, 50 epochs), in resumable pieces.
#
# Everything is written below RESULTS: throughput.json, loader.json, the folder of the search,
# log.txt with all that was printed, utilisation.csv (of the GPU, every 2 s), summary.json.
# Run it again after an interruption: what is finished is not repeated.
#
# The variables below can be set from outside; at a tiny size it runs on a CPU:
#
#     DEVICE=cpu CASES=4,3,32 CHANNELS=4 CELLS=3 EPOCHS=2 BATCH=256 DATA=digits BUDGETS=150kFLOPs \
#     CUTOUT=4 ROUNDS=3 PIECE_S=10 RESULTS=results bash benchmarks/gpu/search.sh
set -euo pipefail

RESULTS=${RESULTS:-gpu-results}
PYTHON=${PYTHON:-python}
GOLDNAS=${GOLDNAS:-goldnas}
DEVICE=${DEVICE:-cuda}
DATA=${DATA:-cifar10}
CHANNELS=${CHANNELS:-36}
CELLS=${CELLS:-14}
EPOCHS=${EPOCHS:-50}
BATCH=${BATCH:-96}
AMP=${AMP:-auto}
BUDGETS=${BUDGETS:-600MFLOPs}
CUTOUT=${CUTOUT:-16}
CASES=${CASES:-36,14,96 36,14,512}
ROUNDS=${ROUNDS:-7}
PIECE_S=${PIECE_S:-540}
PIECES=${PIECES:-12}

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$RESULTS"
run=$RESULTS/run
exec > >(tee -a "$RESULTS/log.txt") 2>&1

if [ ! -e "$RESULTS/throughput.json" ]; then
    cases=()
    for case in $CASES; do cases+=(--case "$case"); done
    # Written aside first, so that a file that is there is complete.
    "$PYTHON" "$here/search_throughput.py" --device "$DEVICE" "${cases[@]}" \
        --rounds "$ROUNDS" --json "$RESULTS/throughput.part"
    mv "$RESULTS/throughput.part" "$RESULTS/throughput.json"
fi
if [ ! -e "$RESULTS/loader.json" ]; then
    "$PYTHON" "$here/loader_throughput.py" --device "$DEVICE" --data "$DATA" \
        --case "$CHANNELS,$CELLS,$BATCH" --cutout "$CUTOUT" --json "$RESULTS/loader.json"
fi

ended() { [ -e "$run/events.jsonl" ] && tail -n 1 "$run/events.jsonl" | grep -q '"event": "end"'; }

watch=
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=timestamp,utilization.gpu,memory.used --format=csv,nounits -l 2 \
        >>"$RESULTS/utilisation.csv" &
    watch=$!
    trap 'kill "$watch"' EXIT
fi
piece=0
while ! ended; do
    piece=$((piece + 1))
    if [ "$piece" -gt "$PIECES" ]; then
        echo "error: the search is not at its end after $PIECES pieces; run this again to go on"
        exit 1
    fi
    if [ -e "$run" ]; then
        command=(search --resume "$run")
    else
        command=(search --data "$DATA" --channels "$CHANNELS" --cells "$CELLS" --epochs "$EPOCHS"
            --batch-size "$BATCH" --amp "$AMP" --train-device "$DEVICE" --cutout "$CUTOUT"
            --out "$run")
        for budget in $BUDGETS; do command+=(--budget "$budget"); done
    fi
    echo "piece $piece: goldnas ${command[*]}"
    began=$(date +%s.%N)
    status=0
    timeout --foreground --signal=INT --kill-after=60 "$PIECE_S" "$GOLDNAS" "${command[@]}" || status=$?
    echo "$piece $began $(date +%s.%N) $status" >>"$RESULTS/pieces.txt"
    case $status in
    0 | 124 | 130 | 137) ;;
    *) exit "$status" ;;
    esac
done

"$PYTHON" - "$RESULTS" <<'PYTHON'
"""Gather what the search has shown."""
import json
import sys
from pathlib import Path

results = Path(sys.argv[1])
log = [json.loads(line) for line in (results / "run" / "events.jsonl").read_text().splitlines()]
pieces = [line.split() for line in (results / "pieces.txt").read_text().splitlines()]
epochs = {event["epoch"]: event for event in log if event["event"] == "epoch"}
summary = {
    "conditions": json.loads((results / "run" / "conditions.json").read_text()),
    "config": json.loads((results / "run" / "config.json").read_text()),
    "pieces": len(pieces),
    "minutes": sum(float(end) - float(began) for _, began, end, _ in pieces) / 60,
    "epoch_seconds": [event["seconds"] for event in epochs.values()],
    "estimated_step_bytes": [event.get("memory_bytes") for event in epochs.values()],
    "peak_bytes": [event.get("peak_memory_bytes") for event in epochs.values()],
    "front": json.loads((results / "run" / "front.json").read_text()),
}
watched = results / "utilisation.csv"
if watched.exists():
    rows = [line.split(", ") for line in watched.read_text().splitlines()]
    whole = [row for row in rows if len(row) == 3 and row[1].strip().isdigit()]
    used = [(float(row[1]), float(row[2])) for row in whole]
    summary["gpu_utilisation_percent"] = sum(u for u, _ in used) / max(1, len(used))
    summary["gpu_peak_memory_mib"] = max((m for _, m in used), default=None)
(results / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
front = summary["front"]["networks"]
print(f"{summary['minutes']:.1f} minutes in {summary['pieces']} pieces, {len(front)} networks:")
for network in front:
    print(f"  {network['accuracy']:.4f}  {network['resources']}  {', '.join(network['reasons'])}")
PYTHON
