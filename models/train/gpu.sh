#!/usr/bin/env bash
# On a bare machine with a GPU, PyTorch, ONNX and ONNX Runtime: trains on packed token ids, exports, and
# leaves everything in pieces of at most 15 MiB.
#
#   bash gpu.sh PARTS OUT [options of `secondpass_train train`: --minutes 30 --hidden 1024 ...]
#
# PARTS is what `remote.py pack` wrote, or those of its files that could be brought at a time: then this ends
# with 3 until the last have come. WORK (default: work, beside this script) keeps the run: called again
# with the same options, it goes on. SPLIT=pieces of at most so many MiB.
set -euo pipefail
parts=$(realpath "$1") out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")"
work=${WORK:-$PWD/work}
python=${PYTHON:-python3}

# Where the facts are, all parts have come.
if [[ ! -f $work/corpus.json ]]; then
  "$python" remote.py unpack "$parts" "$work"
fi
# What there is of the run comes back even if the machine is taken away in the middle.
leave() {
  local there=()
  for file in "$work"/best.pt "$work"/checkpoint.pt "$work"/model/model.onnx "$work"/train.log; do
    if [[ -f $file ]]; then there+=("$file"); fi
  done
  if ((${#there[@]})); then "$python" remote.py split "${there[@]}" "$out" --mib "${SPLIT:-15}"; fi
}
trap leave EXIT
"$python" -u -m secondpass_train train --out "$work" "$@" 2>&1 | tee -a "$work/train.log"
"$python" -m secondpass_train export "$work" --out "$work/model" 2>&1 | tee -a "$work/train.log"
