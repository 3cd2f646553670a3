"""icefall's rnn_lm/export-onnx.py: no-state, with-state v1 and v2 (TorchScript exporter, opset 13)."""

import numpy

from . import cells
from .writer import FLOAT, INT64, Writer, random_sentences, vocabulary, write

BLANK, SOS, UNK = 0, 1, 2
SYMBOLS = vocabulary(24, {BLANK: "<blk>", SOS: "<sos/eos>", UNK: "<unk>"})
PRODUCER = "pytorch"


def make(folder, quantise) -> None:
    net = cells.random_net(11, "lstm", layers=2)
    sentences = [(ids, cells.log_probabilities(net, ids, SOS)) for ids in random_sentences(1, range(3, 24), SOS)]
    facts = {"bos_id": SOS, "eos_id": SOS, "unk_id": UNK}
    write(folder / "icefall-no-state", no_state(net), SYMBOLS, sentences, run="step", **facts)
    write(folder / "icefall-with-state-v1", with_state(net, 1), SYMBOLS, sentences, run="step", **facts)
    write(folder / "icefall-with-state", with_state(net, 2), SYMBOLS, sentences, run="step", **facts)
    # Dynamic quantisation is coarse: half a nat on a token of these small, wild networks.
    facts |= {"tolerance": 0.5}
    write(folder / "icefall-with-state-int8", quantise(with_state(net, 2)), SYMBOLS, sentences, run="step", **facts)
    write(folder / "icefall-no-state-int8", quantise(no_state(net)), SYMBOLS, sentences, run="sentence", **facts)


def no_state(net):
    """`x`, `x_lens` -> `nll`, the sum with the end of sentence, which the graph adds itself."""
    w = Writer()
    w.input("x", INT64, ["N", "L"])
    w.input("x_lens", INT64, ["N"])
    rows = w.op("Gather", w.op("Shape", "x"), w.constant(numpy.array(0)), axis=0)
    column = w.op("Concat", w.op("Unsqueeze", rows, _axes(w, 0)), w.constant(numpy.array([1])), axis=0)
    first = w.op("Expand", w.constant(numpy.array([SOS])), column)
    read = w.op("Concat", first, "x", axis=1)
    padding = w.op("Expand", w.constant(numpy.array([BLANK])), column)
    wanted = w.op("Concat", "x", padding, axis=1)
    index = w.op("Range", w.constant(numpy.array(0)), rows, w.constant(numpy.array(1)))
    places = w.op("Concat", w.op("Unsqueeze", index, _axes(w, 1)), w.op("Unsqueeze", "x_lens", _axes(w, 1)), axis=1)
    ends = w.op("Expand", w.constant(numpy.array([SOS])), w.op("Unsqueeze", rows, _axes(w, 0)))
    wanted = w.op("ScatterND", wanted, places, ends)
    lengths = w.op("Add", "x_lens", w.constant(numpy.array(1)))
    logits = _network(w, net, read, [])
    flat = w.op("Reshape", logits, w.constant(numpy.array([-1, net.vocabulary])))
    targets = w.op("Reshape", wanted, w.constant(numpy.array([-1])))
    loss = w.op("SoftmaxCrossEntropyLoss", flat, targets, reduction="none")
    most = w.op("ReduceMax", lengths, keepdims=0)
    steps = w.op("Range", w.constant(numpy.array(0)), most, w.constant(numpy.array(1)))
    inside = w.op("Less", w.op("Unsqueeze", steps, _axes(w, 0)), w.op("Unsqueeze", lengths, _axes(w, 1)))
    mask = w.op("Reshape", w.op("Not", inside), w.constant(numpy.array([-1])))
    loss = w.op("Where", mask, w.constant(numpy.array(0.0)), loss)
    loss = w.op("Reshape", loss, w.op("Shape", read))
    w.op("ReduceSum", loss, _axes(w, 1), out="nll", keepdims=0)
    w.output("nll", FLOAT, ["N"])
    return w.model(13, PRODUCER, _metadata("rnnlm without state", net))


def with_state(net, version: int):
    """Version 2 gives the first position's log-softmax only; version 1 the nll of `y`."""
    w = Writer()
    layers, hidden = len(net.layers), net.hidden
    w.input("x", INT64, ["N", "L"])
    if version == 1:
        w.input("y", INT64, ["N", "L"])
    for name in ("h0", "c0"):
        w.input(name, FLOAT, [layers, "N", hidden])
    logits = _network(w, net, "x", ["h0", "c0"])
    if version == 2:
        first = w.op("Gather", logits, w.constant(numpy.array(0)), axis=1)
        w.op("LogSoftmax", first, out="log_softmax", axis=1)
        w.output("log_softmax", FLOAT, ["N", net.vocabulary])
    else:
        flat = w.op("Reshape", logits, w.constant(numpy.array([-1, net.vocabulary])))
        targets = w.op("Reshape", "y", w.constant(numpy.array([-1])))
        loss = w.op("SoftmaxCrossEntropyLoss", flat, targets, reduction="none")
        loss = w.op("Reshape", loss, w.op("Shape", "x"))
        w.op("ReduceSum", loss, _axes(w, 1), out="nll", keepdims=0)
        w.output("nll", FLOAT, ["N"])
    for name in ("next_h0", "next_c0"):
        w.output(name, FLOAT, [layers, "N", hidden])
    sizes = {"num_layers": layers, "hidden_size": hidden, "embedding_dim": net.embedding.shape[1]}
    return w.model(13, PRODUCER, _metadata("rnnlm state", net) | sizes)


def _network(w: Writer, net, read: str, states: list[str]) -> str:
    after = [f"next_{name}" for name in states] or ["", ""]
    embedded = w.op("Gather", w.constant(net.embedding, "model.input_embedding.weight"), read)
    turned = w.op("Transpose", embedded, perm=[1, 0, 2])
    if states:
        before, later = cells.stacked_states(w, net, states, after)
    else:
        zeros = [cells.zero_states(w, net, embedded, 0) for _ in net.layers]
        before, later = [zeros, zeros], [[""] * len(net.layers)] * 2
    flow = cells.recurrent(w, net, turned, before, later)
    if states:
        cells.join_states(w, after, later)
    return cells.project(w, net, w.op("Transpose", flow, perm=[1, 0, 2]))


def _metadata(comment: str, net) -> dict:
    return {
        "model_type": "rnnlm",
        "version": "1",
        "model_author": "k2-fsa",
        "comment": comment,
        "sos_id": SOS,
        "eos_id": SOS,
        "vocab_size": net.vocabulary,
        "url": "https://github.com/k2-fsa/icefall",
    }


def _axes(w: Writer, axis: int) -> str:
    return w.constant(numpy.array([axis]))
