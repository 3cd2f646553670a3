#!/usr/bin/env bash
# What an n-gram model alone gives on the lists, from each kind of file: benches/formats.sh [ARPA [LISTS]]
# Files that keep all bits must give equal bytes. Prints bytes, bytes an n-gram and WER before and after.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
data=${SECONDPASS_DATA:?names the folder of measurement data}
arpa=${1:-$data/lm/books.3gram.pruned-0-3-6.arpa.bz2}
lists=${2:-$data/nbest/flite-librispeech.dev.jsonl}
program=${SECONDPASS_PROGRAM:-$root/target/release/secondpass}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rescore() {
  "$program" rescore --quiet --ngram "ngram=$1" --weight ngram=7 "$lists" --output "$work/$2.jsonl"
}
report() {
  local bytes each wer same=$3
  bytes=$(stat -Lc %s "$1")
  each=$("$program" ngram info "$1" 2>/dev/null | sed -n 's/^bytes .*, \([0-9.]*\) for each.*/\1/p')
  wer=$("$program" eval --json "$work/$2.jsonl" 2>/dev/null |
    python3 -c 'import json, sys; e = json.load(sys.stdin); print(*("%.2f" % (100 * e[k]["rate"]) for k in ("before", "after")))')
  printf '%-14s %12d %8s   %s   %s\n' "$2" "$bytes" "$each" "$wer" "$same"
}

printf '%-14s %12s %8s   %s\n' file bytes /n-gram "WER before, after"
rescore "$arpa" arpa
report "$arpa" arpa ""
for kind in "probing" "trie" "array" "compact --prefer size" "compact --prefer speed" "quant" "quant-array"; do
  # shellcheck disable=SC2086
  "$program" --quiet ngram build "$arpa" "$work/model" --type $kind
  name=${kind#compact --prefer }
  rescore "$work/model" "$name"
  if cmp -s "$work/arpa.jsonl" "$work/$name.jsonl"; then
    report "$work/model" "$name" "the same bytes as from ARPA"
  elif [[ $kind == quant* ]]; then
    report "$work/model" "$name" "rounded values"
  else
    echo "$name: other scores than from ARPA" >&2
    exit 1
  fi
done
