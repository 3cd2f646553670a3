"""Checks ARPA files with KenLM: perplexity of a text, and that distributions sum to one.

    python check_arpa.py dev.txt big.arpa.bz2 small.arpa.gz
"""

import math
import sys
import tempfile
from pathlib import Path

import kenlm

from secondpass_train import text

# A context per kind: none, sentence start, frequent, rare, unknown.
CONTEXTS = ["", "<s>", "<s> the", "of the", "in", "old man", "queen of", "zzzz"]


def main(text_path: Path, models: list[Path]) -> None:
    lines = list(text.sentences([text_path]))
    for path in models:
        with _plain(path) as plain:
            model = kenlm.Model(plain.name)
            vocabulary = _vocabulary(Path(plain.name))
        print(path)
        _perplexity(model, lines)
        for context in CONTEXTS:
            print(f"  sum over words after '{context}': {_sum(model, context, vocabulary):.6f}")


def _perplexity(model, lines: list[str]) -> None:
    total = known = 0.0
    words = unknown = 0
    for line in lines:
        for log10, _, oov in model.full_scores(line):
            total += log10
            known += 0.0 if oov else log10
            unknown += oov
        words += len(line.split())
    events = words + len(lines)
    print(f"  perplexity {10 ** (-total / events):.2f} per word ({words} words + {len(lines)} </s>, {unknown} unknown)")
    print(f"  perplexity {10 ** (-known / (events - unknown)):.2f} without the unknown words")
    print(f"  log10 p(<unk>) {model.score('<unk>', bos=False, eos=False):.4f}, ln p {total * math.log(10):.1f}")


def _sum(model, context: str, vocabulary: list[str]) -> float:
    state, after = kenlm.State(), kenlm.State()
    model.NullContextWrite(state)
    for word in context.split():
        if word == "<s>":
            model.BeginSentenceWrite(state)
        else:
            model.BaseScore(state, word, after)
            state, after = after, kenlm.State()
    return sum(10 ** model.BaseScore(state, word, after) for word in vocabulary if word != "<s>")


def _vocabulary(path: Path) -> list[str]:
    words = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("\\2-grams"):
                break
            fields = line.rstrip("\n").split("\t")
            if len(fields) > 1:
                words.append(fields[1])
    return words


def _plain(path: Path):
    """KenLM's Python wheel may be built without the decompressors."""
    plain = tempfile.NamedTemporaryFile("w", suffix=".arpa", encoding="utf-8")
    with text.open_text(path) as lines:
        for line in lines:
            plain.write(line)
    plain.flush()
    return plain


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
