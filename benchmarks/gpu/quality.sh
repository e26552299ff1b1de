#!/usr/bin/env bash
# What the search is worth at full size, in one command:
#
#     DATA=data/cifar10.npz bash benchmarks/gpu/quality.sh
#
# 1. strategies at equal FLOPs (36 channels, 14 cells, all of CIFAR-10), each network trained
#    from scratch with one recipe: benchmarks/search_quality.py --scale gpu;
# 2. DARTS_V2, and the genotype in GENOTYPE if there is one (a file, such as the published one of
#    GOLD-NAS), trained with the same recipe by as many SEEDS.
#
# Everything is written below RESULTS. It works in pieces of PIECE_S seconds, each of which goes
# on where the last one stopped, and is at its end after PIECES of them: then, or after an
# interruption, run it again; status 75 says that there is more to do.
#
# The variables below can be set from outside; at a tiny size it runs on a CPU:
#
#     SCALE=tiny EPOCHS=1 CHANNELS=4 CELLS=3 RECIPE=short DATA=data/cifar10.npz RESULTS=results \
#     bash benchmarks/gpu/quality.sh
set -euo pipefail

DATA=${DATA:?names CIFAR-10 as an .npz}
RESULTS=${RESULTS:-quality-results}
PYTHON=${PYTHON:-python}
SCALE=${SCALE:-gpu}
RECIPE=${RECIPE:-modern}
EPOCHS=${EPOCHS:-100}
CHANNELS=${CHANNELS:-36}
CELLS=${CELLS:-20}
GENOTYPE=${GENOTYPE:-}
SEEDS=${SEEDS:-0 1 2}
PIECE_S=${PIECE_S:-540}
PIECES=${PIECES:-1000}

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$RESULTS"
exec > >(tee -a "$RESULTS/log.txt") 2>&1
pieces=0

in_pieces() { # a command that goes on where it stopped
    local status
    while true; do
        pieces=$((pieces + 1))
        if [ "$pieces" -gt "$PIECES" ]; then
            echo "not at the end after $PIECES pieces; run this again to go on"
            exit 75
        fi
        status=0
        timeout --signal=INT --kill-after=120 "$PIECE_S" "$@" || status=$?
        case $status in
        0) return ;;
        124 | 130 | 137) ;;
        *) exit "$status" ;;
        esac
    done
}

in_pieces "$PYTHON" "$here/search_quality.py" --scale "$SCALE" --data "$DATA" \
    --out "$RESULTS/quality" --report "$RESULTS"
for network in DARTS_V2 $GENOTYPE; do
    for seed in $SEEDS; do
        in_pieces "$PYTHON" -m goldnas train "$network" --data "$RESULTS/quality/data.npz" \
            --channels "$CHANNELS" --cells "$CELLS" --recipe "$RECIPE" --epochs "$EPOCHS" \
            --seed "$seed" --out "$RESULTS/$(basename "$network" .txt)-s$seed"
    done
done
