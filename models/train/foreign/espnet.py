"""espnet_onnx: SequentialRNNLM (opset 12, raw logits, no metadata) and TransformerLM with caches."""

import numpy

from . import cells
from .attention import Block, attend, layer_norm_ops, random_block, sinusoids
from .cells import log_softmax
from .writer import FLOAT, INT64, Writer, random_sentences, vocabulary, write

SIZE = 24
SYMBOLS = vocabulary(SIZE, {0: "<blank>", 1: "<unk>", -1: "<sos/eos>"})
EOS = SIZE - 1


def make(folder) -> None:
    facts = {"bos_id": EOS, "eos_id": EOS, "unk_id": 1, "run": "step"}
    sentences = random_sentences(2, range(2, EOS), EOS)
    for cell in ("lstm", "gru"):
        net = cells.random_net(21, cell, layers=2)
        cases = [(ids, cells.log_probabilities(net, ids, EOS)) for ids in sentences]
        write(folder / f"espnet-{cell}", sequential(net), SYMBOLS, cases, **facts)
    net = random_transformer(22)
    cases = [(ids, transformer_log_probabilities(net, ids)) for ids in sentences]
    write(folder / "espnet-transformer", transformer(net), SYMBOLS, cases, **(facts | {"run": "prefix"}))


def sequential(net):
    w = Writer()
    layers, hidden = len(net.layers), net.hidden
    count = cells.parts(net)
    w.input("x", INT64, ["x_batch", "x_length"])
    names = [f"in_hidden{part + 1}" for part in range(count)]
    after = [f"out_hidden{part + 1}" for part in range(count)]
    for part, name in enumerate(names):
        w.input(name, FLOAT, [layers, f"hidden{part + 1}_batch", hidden])
    embedded = w.op("Gather", w.constant(net.embedding, "encoder.weight"), "x")
    before, later = cells.stacked_states(w, net, names, after)
    flow = cells.recurrent(w, net, w.op("Transpose", embedded, perm=[1, 0, 2]), before, later)
    cells.join_states(w, after, later)
    flow = w.op("Transpose", flow, perm=[1, 0, 2])
    cells.project(w, net, flow, out="y")
    # The exporter names the batch alone: the declared length is that of its dummy input, and wrong.
    w.output("y", FLOAT, ["y_batch", 2, net.vocabulary])
    for part, name in enumerate(after):
        w.output(name, FLOAT, [layers, f"out_hidden{part + 1}_batch", hidden])
    return _opset12(w.model(12, "pytorch"))


def _opset12(model):
    """Before opset 13 the axes of Squeeze are an attribute."""
    from onnx import helper

    values = {t.name: list(numpy.frombuffer(t.raw_data, "int64")) for t in model.graph.initializer if t.data_type == 7}
    for node in model.graph.node:
        if node.op_type in ("Squeeze", "Unsqueeze"):
            node.attribute.append(helper.make_attribute("axes", values[node.input[1]]))
            del node.input[1]
    return model


class Transformer:
    def __init__(self, embedding, table, blocks: list[Block], norm, out, bias):
        self.embedding, self.table, self.blocks = embedding, table, blocks
        self.norm, self.out, self.bias = norm, out, bias


def random_transformer(seed: int, width: int = 8, count: int = 2) -> Transformer:
    source = numpy.random.default_rng(seed)

    def values(*size):
        return source.normal(0.0, 0.6, size).astype("float32").astype("float64")

    blocks = [random_block(source, width, 2 * width) for _ in range(count)]
    norm = (1 + values(width) / 4, values(width))
    return Transformer(values(SIZE, width), sinusoids(40, width), blocks, norm, values(SIZE, width), values(SIZE))


def transformer(net: Transformer):
    """`tgt` is the whole prefix, the caches hold what the layers gave for all of it but the last token;
    `y` are the last position's logits."""
    w = Writer()
    width = net.embedding.shape[1]
    w.input("tgt", INT64, ["tgt_batch", "tgt_length"])
    for layer in range(len(net.blocks)):
        w.input(f"cache_{layer}", FLOAT, [f"cache_{layer}_batch", f"cache_{layer}_length", width])
    zero = w.constant(numpy.array([0]))
    length = w.op("Slice", w.op("Shape", "tgt"), w.constant(numpy.array([1])), w.constant(numpy.array([2])))
    places = w.op("Slice", w.constant(net.table, "pe"), zero, length, zero)
    flow = w.op("Add", w.op("Gather", w.constant(net.embedding, "embed.weight"), "tgt"), places)
    # Id 0 is padding: never looked at.
    hidden = w.op("Equal", "tgt", w.constant(numpy.array(0)))
    mask = w.op("Where", hidden, w.constant(numpy.array(-1e9)), w.constant(numpy.array(0.0)))
    mask = w.op("Unsqueeze", mask, w.constant(numpy.array([1])))
    last = w.constant(numpy.array([-1])), w.constant(numpy.array([1 << 40])), w.constant(numpy.array([1]))
    for layer, block in enumerate(net.blocks):
        query = w.op("Slice", flow, *last)
        new = block.ops(w, query, flow, mask)
        flow = w.op("Concat", f"cache_{layer}", new, out=f"out_cache_{layer}", axis=1)
    top = w.op("Squeeze", w.op("Slice", flow, *last), w.constant(numpy.array([1])))
    top = layer_norm_ops(w, top, net.norm)
    product = w.op("MatMul", top, w.constant(net.out.T))
    w.op("Add", product, w.constant(net.bias), out="y")
    w.output("y", FLOAT, ["y_batch", SIZE])
    for layer in range(len(net.blocks)):
        w.output(f"out_cache_{layer}", FLOAT, [f"out_batch_{layer}", f"out_length_{layer}", width])
    return w.model(13, "pytorch")


def transformer_log_probabilities(net: Transformer, ids: list[int]) -> list[float]:
    """All positions at once with a causal mask, which no cache has a part in."""
    read = [EOS, *ids[:-1]]
    flow = net.embedding[read] + net.table[: len(read)]
    for block in net.blocks:
        flow = attend(block, flow, flow, numpy.tril(numpy.ones((len(read), len(read)), dtype=bool)))
    top = (flow - flow.mean(-1, keepdims=True)) / numpy.sqrt(flow.var(-1, keepdims=True) + 1e-5)
    logits = (top * net.norm[0] + net.norm[1]) @ net.out.T + net.bias
    logs = log_softmax(logits)
    return [float(logs[place, token]) for place, token in enumerate(ids)]
