#!/usr/bin/env bash
# The table of the README: weights tuned on one half of the speakers, error on the other, and the
# reverse; both halves together are every utterance once, none of them learnt from.
#   SECONDPASS_DATA=... benches/flite.sh [LISTS]
set -euo pipefail
cd "$(dirname "$0")/.."
lists=${1:-$SECONDPASS_DATA/nbest/flite-librispeech.dev.jsonl}
program=${SECONDPASS:-target/release/secondpass}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$lists" "$folder" <<'PYTHON'
import json, sys
lists, folder = sys.argv[1:]
lines = open(lists, encoding="utf-8").read().splitlines()
speakers = sorted({json.loads(line)["session"] for line in lines})
first = set(speakers[::2])
for name, half in (("a", first), ("b", set(speakers) - first)):
    with open(f"{folder}/{name}.jsonl", "w", encoding="utf-8") as out:
        out.writelines(line + "\n" for line in lines if json.loads(line)["session"] in half)
PYTHON

rnnlm=(--rnnlm models/en/lstm/model.onnx)
ngram=(--ngram models/en/4gram.compact)
measure() {
    name=$1
    shift
    : > "$folder/$name.out"
    for pair in "a b" "b a"; do
        read -r learn test <<< "$pair"
        "$program" tune "$folder/$learn.jsonl" "$@" --write "$folder/$name.$learn.toml" --force --quiet
        "$program" rescore "$folder/$test.jsonl" --config "$folder/$name.$learn.toml" --consensus best --quiet >> "$folder/$name.out"
        sed -n '/^\[weights\]/,/^$/p' "$folder/$name.$learn.toml" | grep = | tr '\n' ' '
        echo "(tuned on half $learn)"
    done
    echo "$name:"
    "$program" eval "$folder/$name.out" --resamples 10000 | grep -E '^(first pass|second pass|difference) [0-9-]|best of 100'
}
measure "n-gram" "${ngram[@]}"
measure "LSTM" "${rnnlm[@]}"
measure "both" "${ngram[@]}" "${rnnlm[@]}"
measure "both, linear" "${ngram[@]}" "${rnnlm[@]}" --interpolate linear --lambda 0.4 --no-words
