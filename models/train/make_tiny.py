"""Makes the tiny models that the Rust tests read: `python make_tiny.py ../../fixtures/models`.

Random weights, always the same bytes. What the models say is written beside them in `expected.json`,
computed by the float64 reference in numpy, which shares nothing with ONNX Runtime.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy
import onnxruntime

from secondpass_train import onnx_graph, reference, tokenizer
from secondpass_train.onnx_graph import Layer, Weights
from secondpass_train.weights import rounded

WORDS = (
    "a the cat dog mat sat sad sits on in under and or but is was he she it they saw ran run "
    "slept ate red blue big small house hat old man woman bird tree with to of not very"
).split()

# What sentences are made of, for the tokenizer of the subword model.
SUBJECTS = "the cat|a dog|the old man|a small bird|she|he|they|the woman in the red hat".split("|")
VERBS = "sat|slept|ran|was sitting|was running|ate|looked|is sleeping|walked".split("|")
PLACES = "on the mat|under the tree|in the house|with a blue hat|to the old house|very slowly|not at all".split("|")
JOINERS = "and|but|while|because|or".split("|")

SENTENCES = [
    "",
    "a",
    "a cat sat",
    "a cat sad",
    "the cat sat on the mat",
    "the dog sat on the mat and the cat ran",
    "the the the the",
    "zebra",
    "a zebra sat on the xylophone",
    "they saw the old man with the red hat under the tree",
    "The Cat 42 sat",
    # Longer than any window somebody may have hard-wired.
    " ".join(["the old woman saw a small red bird in the tree and ran"] * 5),
]


def main(folder: Path) -> None:
    make_words(folder / "tiny-lstm")
    make_pieces(folder / "tiny-bpe")
    make_wide(folder / "wide-lstm")


def make_words(folder: Path) -> None:
    """One layer of 16 over words; embedding (10) and output matrix are separate."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = ["<s>", "</s>", "<unk>", *WORDS]
    ids = {symbol: index for index, symbol in enumerate(symbols)}
    (folder / "tokens.txt").write_text("".join(f"{symbol} {index}\n" for symbol, index in ids.items()))
    weights = random_weights(seed=1, vocabulary=len(symbols), embedding=10, hidden=16, layers=1, tied=False)
    metadata = onnx_graph.metadata(len(symbols), ids["<s>"], ids["</s>"], ids["<unk>"], "words")

    def encode(sentence: str) -> list[int]:
        return [ids.get(word, ids["<unk>"]) for word in sentence.split()]

    _write(folder, weights, metadata, encode)
    _write_stored(folder, weights, metadata, encode)


def make_pieces(folder: Path) -> None:
    """Two layers of 12 over SentencePiece pieces; the output matrix is the embedding's."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = tokenizer.train(made_up_sentences(seed=2, count=400), "unigram", 80, folder)
    weights = random_weights(seed=3, vocabulary=pieces.size, embedding=12, hidden=12, layers=2, tied=True)
    metadata = onnx_graph.metadata(pieces.size, pieces.bos, pieces.eos, pieces.unk, pieces.kind)
    _write(folder, weights, metadata, pieces.processor.encode)
    _write_stored(folder, weights, metadata, pieces.processor.encode)


def make_wide(folder: Path) -> None:
    """One layer of 32 over 2,048 words, whose output matrix lies near eight directions, as those of trained models do."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = ["<s>", "</s>", "<unk>", *WORDS]
    symbols += [f"word{number}" for number in range(2_048 - len(symbols))]
    ids = {symbol: index for index, symbol in enumerate(symbols)}
    (folder / "tokens.txt").write_text("".join(f"{symbol} {index}\n" for symbol, index in ids.items()))
    weights = random_weights(seed=5, vocabulary=len(symbols), embedding=8, hidden=32, layers=1, tied=False)
    source = numpy.random.default_rng(6)
    few = source.normal(0.0, 0.5, (len(symbols), 8)) @ source.normal(0.0, 0.5, (8, 32))
    matrix = (few + source.normal(0.0, 0.1, few.shape)).astype(numpy.float32)
    weights = dataclasses.replace(weights, output_matrix=matrix)
    metadata = onnx_graph.metadata(len(symbols), ids["<s>"], ids["</s>"], ids["<unk>"], "words")
    _write(folder, weights, metadata, lambda sentence: [ids.get(word, ids["<unk>"]) for word in sentence.split()])


def random_weights(seed: int, vocabulary: int, embedding: int, hidden: int, layers: int, tied: bool) -> Weights:
    """Large enough that probabilities are far from uniform and the state matters."""
    source = numpy.random.default_rng(seed)

    def values(*size):
        return source.normal(0.0, 0.7, size).astype(numpy.float32)

    table = values(vocabulary, embedding)
    stack = []
    for layer in range(layers):
        width = embedding if layer == 0 else hidden
        stack.append(Layer(values(4 * hidden, width), values(4 * hidden, hidden), values(4 * hidden)))
    bias = values(vocabulary)
    return Weights(table, stack, bias, None if tied else values(vocabulary, hidden))


def made_up_sentences(seed: int, count: int) -> list[str]:
    source = numpy.random.default_rng(seed)

    def clause() -> str:
        return " ".join(str(source.choice(part)) for part in (SUBJECTS, VERBS, PLACES))

    return [
        clause() if source.random() < 0.5 else f"{clause()} {source.choice(JOINERS)} {clause()}"
        for _ in range(count)
    ]


def _write_stored(folder: Path, weights: Weights, metadata: dict[str, str], encode) -> None:
    """The same with its matrices in fewer bits, in folders of their own; what is expected is that of what is left."""
    for storage in ("fp16", "int8"):
        beside = folder.with_name(f"{folder.name}-{storage}")
        beside.mkdir(exist_ok=True)
        _write(beside, rounded(weights, storage), metadata, encode, onnx_graph.build(weights, metadata, storage))


def _write(folder: Path, weights: Weights, metadata: dict[str, str], encode, model=None) -> None:
    model = model or onnx_graph.build(weights, metadata)
    serialised = model.SerializeToString(deterministic=True)
    (folder / "model.onnx").write_bytes(serialised)
    bos, eos, unk = (int(metadata[key]) for key in ("bos_id", "eos_id", "unk_id"))
    cases = []
    for sentence in SENTENCES:
        ids = [*encode(sentence), eos]
        logs = reference.log_probabilities(weights, ids, bos)
        _check(serialised, weights, ids, bos, logs)
        cases.append(
            {
                "text": sentence,
                "ids": ids,
                "log_probs": [round(value, 9) for value in logs],
                "total": round(sum(logs), 9),
                "unknown": ids.count(unk),
            }
        )
    lines = ",\n".join(json.dumps(case) for case in cases)
    (folder / "expected.json").write_text(f'{{"bos_id":{bos},"eos_id":{eos},"unk_id":{unk},"sentences":[\n{lines}\n]}}\n')


def _check(serialised: bytes, weights: Weights, ids: list[int], bos: int, logs: list[float]) -> None:
    """The graph must agree with the reference, or the fixture would be worthless."""
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    state = numpy.zeros((len(weights.layers), 1, weights.hidden), dtype=numpy.float32)
    tokens = numpy.array([[bos, *ids[:-1]]], dtype=numpy.int64)
    (got,) = session.run(["log_probs"], {"tokens": tokens, "state_0": state, "state_1": state})
    difference = max(abs(float(got[0, place, token]) - logs[place]) for place, token in enumerate(ids))
    if difference > 1e-5:
        raise SystemExit(f"ONNX Runtime differs from the reference by {difference:.2e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
