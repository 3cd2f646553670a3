"""Keras models by tf2onnx: float ids behind a Cast, probabilities at the end, no states."""

import numpy

from . import cells
from .writer import FLOAT, INT64, Writer, random_sentences, vocabulary, write

SYMBOLS = vocabulary(24, {0: "<pad>", 1: "<s>", 2: "</s>", 3: "<unk>"})
FACTS = {"bos_id": 1, "eos_id": 2, "unk_id": 3}


def make(folder) -> None:
    lines = random_sentences(8, range(3, 24), 2)
    for name, cell, before in (("keras-lstm", "lstm", False), ("keras-gru", "gru", True)):
        net = cells.random_net(61, cell, reset_before=before)
        cases = [(ids, cells.log_probabilities(net, ids, 1)) for ids in lines]
        write(folder / name, sequences(net), SYMBOLS, cases, run="step", **FACTS)
    net = cells.random_net(62, "lstm")
    cases = [(ids, cells.log_probabilities(net, ids, 1)) for ids in lines]
    write(folder / "keras-last", last(net, None), SYMBOLS, cases, run="step", **FACTS)
    steps = 10
    cases = [(ids, padded(net, ids, steps)) for ids in lines]
    write(folder / "keras-next-word", last(net, steps), SYMBOLS, cases, run="window", **FACTS)


def sequences(net):
    """return_sequences=True."""
    w = Writer()
    w.input("embedding_input", FLOAT, ["unk__12", "unk__13"])
    flow = _network(w, net, "embedding_input", "")
    flow = w.op("Transpose", flow, perm=[1, 0, 2])
    w.op("Softmax", cells.project(w, net, flow), out="dense", axis=-1)
    w.output("dense", FLOAT, ["unk__14", "unk__15", net.vocabulary])
    return w.model(15, "tf2onnx")


def last(net, steps: int | None):
    """return_sequences=False: the next token alone; with `steps`, over a window padded with zeros in front."""
    w = Writer()
    w.input("input_1", FLOAT, ["unk__6", steps or "unk__7"])
    _network(w, net, "input_1", "h_last")
    flow = w.op("Squeeze", "h_last", w.constant(numpy.array([0])))
    flow = w.op("Gemm", flow, w.constant(net.out.T), w.constant(net.bias))
    w.op("Softmax", flow, out="dense_1", axis=-1)
    w.output("dense_1", FLOAT, ["unk__8", net.vocabulary])
    return w.model(15, "tf2onnx")


def padded(net, ids: list[int], steps: int) -> list[float]:
    result = []
    for place, wanted in enumerate(ids):
        history = [1, *ids[:place]][-steps:]
        zeros = [0] * (steps - len(history))
        result += cells.log_probabilities(net, [wanted], history[-1], start=[*zeros, *history[:-1]])
    return result


def _network(w: Writer, net, tokens: str, after: str) -> str:
    tokens = w.op("Cast", tokens, to=6)
    flow = w.op("Gather", w.constant(net.embedding, "sequential/embedding/embedding_lookup/Read:0"), tokens)
    flow = w.op("Transpose", flow, perm=[1, 0, 2])
    # tf2onnx leaves the first states out where they are zeros.
    nothing = [[""]] * cells.parts(net)
    return cells.recurrent(w, net, flow, nothing, [[after], *nothing[1:]])
