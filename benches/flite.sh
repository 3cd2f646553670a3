#!/usr/bin/env bash
# The accuracy table of the README: weights tuned on one half of the speakers, error on the other, and the
# reverse; both halves together are every utterance once, none of them learnt from.
#   SECONDPASS_DATA=... benches/flite.sh [LISTS]
exec "$(dirname "$0")/sets.sh" "${1:-$SECONDPASS_DATA/nbest/flite-librispeech.dev.jsonl}"
