#!/usr/bin/env bash
# One table for each set of lists: first pass, with the shipped n-gram, with the shipped LSTM, with both (weights of their
# own, and mixed as shipped), with the mixture decided by MBR and by ROVER, and the oracle. At the end all sets in one table. Weights are tuned on one half and measured on the other, and the
# reverse: every utterance counts once, none was learnt from. Halves are speakers where they are known, else
# blocks of 50 consecutive utterances, alternating.
#   SECONDPASS_DATA=... benches/sets.sh [LISTS..]
# The models run once for each set: what they say is kept in target/sets and used again.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${SECONDPASS:-target/release/secondpass}
cache=${SECONDPASS_CACHE:-target/sets}
mkdir -p "$cache"
work=$(mktemp -d)
summary=$(mktemp)
trap 'rm -rf "$work" "$summary"' EXIT
[[ $# -gt 0 ]] || set -- "$SECONDPASS_DATA"/nbest/*.jsonl

split() { # LISTS: two halves
  python3 - "$1" "$work" <<'PYTHON'
import json, sys
lists, folder = sys.argv[1:]
records = [(json.loads(line), line) for line in open(lists, encoding="utf-8")]
sessions = sorted({record.get("session") for record, _ in records} - {None})
first = set(sessions[::2])
with open(f"{folder}/a.jsonl", "w", encoding="utf-8") as a, open(f"{folder}/b.jsonl", "w", encoding="utf-8") as b:
    for number, (record, line) in enumerate(records):
        # The mixture's score as one of the list's own: `tune` weighs those.
        for hypothesis in record["hyps"]:
            if "mix" in hypothesis.get("scores", {}):
                hypothesis["scores"]["mixed"] = hypothesis["scores"]["mix"]
        half = record["session"] in first if sessions else number // 50 % 2 == 0
        (a if half else b).write(json.dumps(record, ensure_ascii=False) + "\n")
PYTHON
}

row() { # NAME FEATURES [FLAGS of rescore]
  local name=$1 features=$2 kept=0 learn test options=()
  [[ $features == *,mixed ]] && options=(--no-words) # as the shipped weight was tuned
  shift 2
  : >"$work/out.jsonl"
  for pair in "a b" "b a"; do
    read -r learn test <<<"$pair"
    if [[ ! -e $work/$features.$learn.toml ]]; then
      "$program" tune --no-models --features "$features" "${options[@]}" "$work/$learn.jsonl" --force --quiet --write "$work/$features.$learn.toml"
    fi
    grep -q 'significant = true' "$work/$features.$learn.toml" || kept=$((kept + 1))
    "$program" rescore --no-models --weights "$work/$features.$learn.toml" "$@" --quiet "$work/$test.jsonl" >>"$work/out.jsonl"
  done
  "$program" eval "$work/out.jsonl" --resamples 10000 --json >"$work/eval.json"
  python3 - "$work/eval.json" "$name" "$kept" "$work/rows" <<'PYTHON'
import json, sys
path, name, kept, rows = sys.argv[1:]
e = json.load(open(path))
def interval(v): return f"({100 * v['low']:.2f} to {100 * v['high']:.2f})"
if name == "first pass":
    print(f"| first pass | {100 * e['before']['rate']:.2f} {interval(e['intervals']['before'])} | | | |")
elif name == "oracle":
    print(f"| best of the list (oracle) | {100 * e['oracle'][-1]['rate']:.2f} | | | |")
else:
    d = e["intervals"]["difference"]
    p = e["matched_pairs"]["p"]
    says = {"0": "use", "1": "use in one half", "2": "keep the first pass"}[kept]
    p = "< 0.001" if p < 0.001 else f"{p:.3f}"
    after = f"{100 * e['after']['rate']:.2f}"
    print(f"| {name} | {after} {interval(e['intervals']['after'])} | {100 * d['value']:+.2f} {interval(d)} | {p} | {says} |")
    with open(rows, "a") as out:
        if name == "with both, mixed":
            before = f"{100 * e['before']['rate']:.2f} {interval(e['intervals']['before'])}"
            print(json.dumps({"first": before, "oracle": f"{100 * e['oracle'][-1]['rate']:.2f}", "p": p, "says": says,
                              "difference": f"{100 * d['value']:+.2f} {interval(d)}"}), file=out)
        print(json.dumps({name: after}), file=out)
PYTHON
}

for lists in "$@"; do
  name=$(basename "$lists" .jsonl)
  features=$cache/$name.jsonl
  if [[ ! -e $features ]]; then
    nice "$program" rescore "$lists" --quiet --output "$features.part"
    mv "$features.part" "$features"
  fi
  rm -f "$work"/*
  split "$features"
  base=score
  head -n 1 "$features" | grep -q '"score"' || base=rank
  echo
  echo "**$name**, $(wc -l <"$features") lists"
  echo
  if [[ $name == moses-* ]]; then
    # Translations: BLEU, held out in five folds.
    for set in ngram rnnlm ngram,rnnlm; do
      echo "$base,$set"
      "$program" tune --no-models --features "$base,$set" --measure bleu "$features" 2>&1 |
        grep -E 'BLEU|difference|no significant' | sed 's/^secondpass: /    /'
    done
    continue
  fi
  echo "| | WER | against the first pass | p (MPSSWE) | \`tune\` says |"
  echo "|---|---|---|---|---|"
  row "first pass" "$base,ngram"
  row "with the n-gram" "$base,ngram"
  row "with the LSTM" "$base,rnnlm"
  row "with both" "$base,ngram,rnnlm"
  row "with both, mixed" "$base,mixed"
  row "with both, mixed, MBR" "$base,mixed" --consensus mbr
  row "with both, mixed, ROVER" "$base,mixed" --consensus rover
  row "oracle" "$base,ngram"
  python3 - "$work/rows" "$name" >>"$summary" <<'PYTHON'
import json, sys
path, name = sys.argv[1:]
got = {}
for line in open(path):
    got.update(json.loads(line))
columns = ["first", "with the n-gram", "with the LSTM", "with both", "with both, mixed", "difference", "p",
           "with both, mixed, MBR", "with both, mixed, ROVER", "oracle", "says"]
print(f"| {name} | " + " | ".join(got[column] for column in columns) + " |")
PYTHON
done

echo
echo "| | first pass | n-gram | LSTM | both | both, mixed | difference | p | MBR | ROVER | oracle | \`tune\` says |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|"
cat "$summary"
