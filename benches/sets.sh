#!/usr/bin/env bash
# One table for each set of lists: first pass, with the shipped n-gram, with the shipped LSTM, with both (weights of
# their own, and mixed as shipped), with the mixture decided by MBR and by ROVER, what `tune` makes of it when it is
# free to do no harm, and the oracle; at the end all sets in one table. Weights are tuned on one half and measured on the other, and the reverse: every utterance counts once, none
# was learnt from. Halves are speakers where they are known, else blocks of 50 consecutive utterances, alternating.
# Translations (moses-*) are measured by BLEU, held out in five folds.
#   SECONDPASS_DATA=... benches/sets.sh [LISTS..]
# The models run once for each set: what they say is kept in target/sets and used again. Needs Python 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${SECONDPASS:-target/release/secondpass}
cache=${SECONDPASS_CACHE:-target/sets}
mkdir -p "$cache"
work=$(mktemp -d)
summary=$(mktemp)
trap 'rm -rf "$work" "$summary"' EXIT
if [[ $# = 0 ]]; then
  : "${SECONDPASS_DATA:?name the lists, JSON Lines with references, or set this to a folder with nbest/*.jsonl}"
  set -- "$SECONDPASS_DATA"/nbest/*.jsonl
fi
if [[ ! -x $program ]]; then
  cargo build --release
fi

split() { # LISTS: two halves
  python3 - "$1" "$work" "${speakers[@]}" <<'PYTHON'
import json, sys
lists, folder, *flags = sys.argv[1:]
until = flags[1] if flags else None
records = [(json.loads(line), line) for line in open(lists, encoding="utf-8")]
def speaker(record):
    return record.get("session") or (record["id"].split(until)[0] if until else None)
known = sorted({speaker(record) for record, _ in records} - {None})
first = set(known[::2])
with open(f"{folder}/a.jsonl", "w", encoding="utf-8") as a, open(f"{folder}/b.jsonl", "w", encoding="utf-8") as b:
    for number, (record, line) in enumerate(records):
        half = speaker(record) in first if known else number // 50 % 2 == 0
        (a if half else b).write(line)
PYTHON
}

learn() { # FEATURES HALF [--force]: weights of that half
  local to="$work/$1.$2${3:-}.toml"
  if [[ ! -e $to ]]; then
    local options=()
    [[ $1 != *,mix ]] || options=(--no-words) # as the shipped weight was tuned
    "$program" tune --no-models --features "$1" "${options[@]}" "$work/$2.jsonl" "${speakers[@]}" "${@:3}" --quiet --write "$to"
  fi
  echo "$to"
}

row() { # NAME FEATURES force|free [FLAGS of rescore]
  local name=$1 features=$2 force=() says=() pair from test weights
  [[ $3 = free ]] || force=(--force)
  shift 3
  : >"$work/out.jsonl"
  for pair in "a b" "b a"; do
    read -r from test <<<"$pair"
    weights=$(learn "$features" "$from" "${force[@]}")
    says+=("$weights")
    "$program" rescore --no-models --weights "$weights" "$@" --quiet "$work/$test.jsonl" >>"$work/out.jsonl"
  done
  "$program" eval "$work/out.jsonl" "${speakers[@]}" --resamples 10000 --json >"$work/eval.json"
  python3 - "$work/eval.json" "$work/rows" "$name" "${says[@]}" <<'PYTHON'
import json, sys, tomllib
path, rows, name, *files = sys.argv[1:]
e = json.load(open(path))
tuned = [tomllib.load(open(file, "rb")) for file in files]
def interval(v): return f"({100 * v['low']:.2f} to {100 * v['high']:.2f})"
if name == "first pass":
    print(f"| first pass | {100 * e['before']['rate']:.2f} {interval(e['intervals']['before'])} | | | |")
elif name == "oracle":
    print(f"| best of the list (oracle) | {100 * e['oracle'][-1]['rate']:.2f} | | | |")
else:
    d = e["intervals"]["difference"]
    p = e["matched_pairs"]["p"]
    # What `tune` says of each half, of the weights or of MBR.
    fact = "mbr_significant" if "MBR" in name else "significant"
    used = sum(t["tuned"].get(fact, False) for t in tuned)
    says = "" if "ROVER" in name else ["do not use", "use in one half", "use"][used]
    if name.startswith("as "):
        says = ", ".join("{} {}".format("both" if t["tuned"]["used"] else "first pass", t.get("consensus", "best")) for t in tuned)
    p = "< 0.001" if p < 0.001 else f"{p:.3f}"
    after = f"{100 * e['after']['rate']:.2f}"
    difference = f"{100 * d['value']:+.2f} {interval(d)}"
    print(f"| {name} | {after} {interval(e['intervals']['after'])} | {difference} | {p} | {says} |")
    with open(rows, "a") as out:
        if name == "with both, mixed":
            before = f"{100 * e['before']['rate']:.2f} {interval(e['intervals']['before'])}"
            oracle = f"{100 * e['oracle'][-1]['rate']:.2f}"
            print(json.dumps({"first": before, "oracle": oracle, "p": p, "says": says, "difference": difference}), file=out)
        print(json.dumps({name: after}), file=out)
PYTHON
}

bleu() { # FEATURES..: a table of one tuning for each
  local features
  echo "| | BLEU, held out | against the first pass | \`tune\` says |"
  echo "|---|---|---|---|"
  for features in "$@"; do
    "$program" tune --no-models --features "$features" --measure bleu "$lists_with" --force --quiet \
      --write "$work/$features.toml"
  done
  python3 - "$work" "$@" <<'PYTHON'
import sys, tomllib
folder, *sets = sys.argv[1:]
def pair(v): return f"({v[0]:.2f} to {v[1]:.2f})"
for number, features in enumerate(sets):
    t = tomllib.load(open(f"{folder}/{features}.toml", "rb"))["tuned"]
    if number == 0:
        print(f"| first pass | {t['first_pass_bleu']:.2f} {pair(t['first_pass_bleu_interval'])} | | |")
    says = "use" if t["significant"] else "do not use"
    print(f"| with {' and '.join(features.split(',')[1:])} | {t['held_out_bleu']:.2f} {pair(t['held_out_bleu_interval'])} | "
          f"{t['difference']:+.2f} {pair(t['difference_interval'])} | {says} |")
print(f"| best of the list, one by one (oracle) | {t['oracle_bleu']:.2f} | | |")
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
  # Kaldi's ids begin with the speaker.
  speakers=()
  [[ $name != kaldi-* ]] || speakers=(--speaker-until _)
  base=score
  head -n 1 "$features" | grep -q '"score"' || base=rank
  echo
  echo "**$name**, $(wc -l <"$features") lists"
  echo
  if [[ $name == moses-* ]]; then
    lists_with=$features
    bleu "$base,ngram" "$base,rnnlm" "$base,ngram,rnnlm"
    continue
  fi
  split "$features"
  best=(--consensus best)
  echo "| | WER | against the first pass | p (MPSSWE) | \`tune\` says |"
  echo "|---|---|---|---|---|"
  row "first pass" "$base,ngram" force "${best[@]}"
  row "with the n-gram" "$base,ngram" force "${best[@]}"
  row "with the LSTM" "$base,rnnlm" force "${best[@]}"
  row "with both" "$base,ngram,rnnlm" force "${best[@]}"
  row "with both, mixed" "$base,mix" force "${best[@]}"
  row "with both, mixed, MBR" "$base,mix" force --consensus mbr
  row "with both, mixed, ROVER" "$base,mix" force --consensus rover
  row "as \`tune\` decides" "$base,mix" free
  row "oracle" "$base,ngram" force "${best[@]}"
  python3 - "$work/rows" "$name" >>"$summary" <<'PYTHON'
import json, sys
path, name = sys.argv[1:]
got = {}
for line in open(path):
    got.update(json.loads(line))
columns = ["first", "with the n-gram", "with the LSTM", "with both", "with both, mixed", "difference", "p",
           "with both, mixed, MBR", "with both, mixed, ROVER", "as `tune` decides", "oracle", "says"]
print(f"| {name} | " + " | ".join(got[column] for column in columns) + " |")
PYTHON
done

echo
echo "| | first pass | n-gram | LSTM | both | both, mixed | difference | p | MBR | ROVER | as \`tune\` decides | oracle | \`tune\` says |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
cat "$summary"
