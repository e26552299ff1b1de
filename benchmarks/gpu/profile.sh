#!/usr/bin/env bash
# Tables of this machine's GPU, and how well they predict: one command, nothing is fetched.
#
#   bash benchmarks/gpu/profile.sh RESULTS
#   WHEELS=wheels LIMIT_S=540 bash benchmarks/gpu/profile.sh RESULTS    # again until it says done
#
# Tries every backend, then profiles the GOLD space with the best that runs and with PyTorch as it
# is; where there is PyTorch alone, that is as a CUDA graph and as it is. Two
# tables for each number format and batch, calibrated, and 50 fresh networks for each table,
# predicted and measured. Writes tables, accuracy and logs into RESULTS. Whatever interrupts it,
# the same command goes on where it was. Set by the environment:
#
#   PYTHON    interpreter with torch, python3 by default; goldnas itself runs from this checkout
#   WHEELS    folder of wheels to install beside it into RESULTS/site, without asking an index
#   BACKEND   names of backends to take instead: "tensorrt torch-graph"; onnxruntime-cpu measures
#             the processor, to try the script out
#   LIMIT_S   seconds after which to stop with status 75
#   CELLS, CHANNELS, INPUT, OPERATORS, PRECISIONS, BATCHES, CALIBRATE, NETWORKS, TABLES, TARGET
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
results=${1:?give a folder for the results}
python=${PYTHON:-python3}
cells=${CELLS:-14} channels=${CHANNELS:-36} input=${INPUT:-3x32x32}
operators=${OPERATORS:-skip_connect,sep_conv_3x3}
precisions=${PRECISIONS:-fp32 fp16} batches=${BATCHES:-1 64}
calibrate=${CALIBRATE:-20} networks=${NETWORKS:-50} tables=${TABLES:-2} target=${TARGET:-1}
began=$SECONDS

mkdir -p "$results"/{tables,accuracy,logs,done}
results=$(cd "$results" && pwd)
export PYTHONSAFEPATH=1 PYTHONPATH=$root:$results/site${PYTHONPATH:+:$PYTHONPATH}

# step NAME COMMAND...: run a command unless it was finished before, and log it. Ctrl-C ends it
# when the time is up, so that it keeps what it has.
step() {
  local name=$1 left status=0
  shift
  if [[ -e $results/done/$name ]]; then return 0; fi
  left=$((${LIMIT_S:-86400} - (SECONDS - began)))
  if ((left < 5)); then out_of_time; fi
  printf '== %s\n' "$name"
  local start=$SECONDS
  timeout --foreground --signal=INT --kill-after=30 "$left" "$@" 2>&1 |
    tee -a "$results/logs/$name.log" || status=$?
  printf '%s\t%d s\tstatus %d\n' "$name" $((SECONDS - start)) "$status" >>"$results/seconds.tsv"
  if ((status == 124 || status == 137)); then out_of_time; fi
  if ((status == 0)); then touch "$results/done/$name"; fi
  return "$status"
}

out_of_time() {
  echo "the time is up; run the same command again to go on"
  exit 75
}

if [[ -n ${WHEELS:-} ]]; then
  # Another listing is another step, after which the backends are tried again.
  wheels=wheels-$(ls -ln --time-style=+%s "$WHEELS" | cksum | cut -d ' ' -f 1)
  if [[ ! -e $results/done/$wheels ]]; then rm -f "$results/done/try"; fi
  step "$wheels" "$python" -m pip install --quiet --no-index --no-deps --target "$results/site" \
    "$WHEELS"/*.whl
fi

if [[ -z ${BACKEND:-} ]]; then
  step try "$python" "$root/benchmarks/gpu/try_backends.py" --out "$results/try.json"
  read -r -a run <<<"$(sed -n 's/^run here: *//p' "$results/logs/try.log" | tail -1)"
  # The best of them, and PyTorch as it is in any case.
  BACKEND=
  for name in tensorrt tensorrt-rtx onnxruntime-cuda torch-graph torch; do
    if [[ " ${run[*]:-} " == *" $name "* && (-z $BACKEND || $name == torch) ]]; then
      BACKEND+=" $name"
    fi
  done
  if [[ -z $BACKEND ]]; then
    rm -f "$results/done/try"
    echo "no backend runs here: see $results/try.json" >&2
    exit 2
  fi
fi

failed=0
for backend in $BACKEND; do
  where=(--backend "$backend")
  if [[ $backend == onnxruntime-cpu ]]; then where=(--device cpu); fi
  for precision in $precisions; do
    for batch in $batches; do
      setting=$backend-$precision-b$batch
      made=()
      complete=yes
      for ((number = 0; number < tables; number++)); do
        table=$results/tables/$setting-$number.json
        step "profile-$setting-$number" \
          "$python" -c 'from goldnas.cli.main import app; app()' profile "${where[@]}" \
          --precision "$precision" --batch "$batch" --cells "$cells" --channels "$channels" \
          --input "$input" --operators "$operators" --networks "$calibrate" \
          --target "$target" --out "$table" || complete=no
        made+=(--table "$table")
      done
      # A backend that cannot do one setting may do the next.
      if [[ $complete == no ]]; then
        failed=1
        continue
      fi
      step "accuracy-$setting" \
        "$python" "$root/benchmarks/latency_accuracy.py" "${made[@]}" --networks "$networks" \
        --out "$results/accuracy/$setting.json" || failed=1
    done
  done
done
if ((failed)); then
  echo "some steps failed: see $results/logs and $results/seconds.tsv" >&2
  exit 1
fi
echo "done: $results has tables, accuracy and logs"
