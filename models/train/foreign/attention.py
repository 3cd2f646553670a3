"""Attention: one pre-norm block in numpy (float64) and as ONNX nodes, and the models made of it."""

from dataclasses import dataclass

import numpy

from .cells import log_softmax
from .writer import BOOL, FLOAT, INT64, Writer, random_sentences, vocabulary, write

HEADS = 2


@dataclass
class Block:
    """Self- or cross-attention and a feed-forward layer, each behind a layer norm."""

    before: tuple
    query: numpy.ndarray
    key: numpy.ndarray
    value: numpy.ndarray
    out: numpy.ndarray
    middle: tuple
    wide: tuple
    narrow: tuple

    def ops(self, w: Writer, query: str, memory: str, mask: str, own_memory: bool = True) -> str:
        """`mask` is added to scores of the shape [N, 1 or Lq, Lk]."""
        normed = layer_norm_ops(w, query, self.before)
        source = layer_norm_ops(w, memory, self.before) if own_memory else memory
        q, k, v = (
            heads_ops(w, w.op("MatMul", flow, w.constant(matrix)))
            for flow, matrix in ((normed, self.query), (source, self.key), (source, self.value))
        )
        return self.rest_ops(w, query, q, k, v, mask)

    def rest_ops(self, w: Writer, query: str, q: str, k: str, v: str, mask: str) -> str:
        width = self.query.shape[1] // HEADS
        scores = w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = w.op("Mul", scores, w.constant(numpy.array(width**-0.5)))
        if mask:
            scores = w.op("Add", scores, w.op("Unsqueeze", mask, w.constant(numpy.array([1]))))
        mixed = w.op("MatMul", w.op("Softmax", scores, axis=-1), v)
        mixed = w.op("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = w.op("Reshape", mixed, w.constant(numpy.array([0, 0, HEADS * width])))
        flow = w.op("Add", query, w.op("MatMul", mixed, w.constant(self.out)))
        inner = w.op("MatMul", layer_norm_ops(w, flow, self.middle), w.constant(self.wide[0]))
        inner = w.op("Relu", w.op("Add", inner, w.constant(self.wide[1])))
        inner = w.op("MatMul", inner, w.constant(self.narrow[0]))
        return w.op("Add", flow, w.op("Add", inner, w.constant(self.narrow[1])))


def random_block(source, width: int, inner: int) -> Block:
    def values(*size):
        return source.normal(0.0, 0.6, size).astype("float32").astype("float64")

    def norm():
        return 1 + values(width) / 4, values(width) / 4

    matrices = [values(width, width) for _ in range(4)]
    return Block(norm(), *matrices, norm(), (values(width, inner), values(inner)), (values(inner, width), values(width)))


def attend(block: Block, query, memory, mask, own_memory: bool = True):
    """The block over all positions: [L, D]; `mask` [Lq, Lk] says what may be looked at."""
    normed = _norm(query, block.before)
    source = _norm(memory, block.before) if own_memory else memory
    width = normed.shape[-1] // HEADS
    mixed = []
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        q, k, v = (normed @ block.query)[:, part], (source @ block.key)[:, part], (source @ block.value)[:, part]
        scores = numpy.where(mask, q @ k.T * width**-0.5, -numpy.inf)
        mixed.append(numpy.exp(log_softmax(scores)) @ v)
    flow = query + numpy.concatenate(mixed, axis=-1) @ block.out
    inner = numpy.maximum(_norm(flow, block.middle) @ block.wide[0] + block.wide[1], 0)
    return flow + inner @ block.narrow[0] + block.narrow[1]


def _norm(flow, norm):
    top = (flow - flow.mean(-1, keepdims=True)) / numpy.sqrt(flow.var(-1, keepdims=True) + 1e-5)
    return top * norm[0] + norm[1]


def layer_norm_ops(w: Writer, flow: str, norm: tuple) -> str:
    """As exporters write it before opset 17."""
    flow = w.op("Sub", flow, w.op("ReduceMean", flow, axes=[-1]))
    squares = w.op("ReduceMean", w.op("Mul", flow, flow), axes=[-1])
    flow = w.op("Div", flow, w.op("Sqrt", w.op("Add", squares, w.constant(numpy.array(1e-5)))))
    return w.op("Add", w.op("Mul", flow, w.constant(norm[0])), w.constant(norm[1]))


def heads_ops(w: Writer, flow: str) -> str:
    split = w.op("Reshape", flow, w.constant(numpy.array([0, 0, HEADS, -1])))
    return w.op("Transpose", split, perm=[0, 2, 1, 3])


def sinusoids(length: int, width: int) -> numpy.ndarray:
    places = numpy.arange(length)[:, None] / 10000 ** (numpy.arange(0, width, 2) / width)
    table = numpy.stack([numpy.sin(places), numpy.cos(places)], axis=-1).reshape(length, width)
    return table.astype("float32").astype("float64")


class Gpt:
    """A decoder of the GPT-2 kind; the output matrix is the embedding."""

    def __init__(self, seed: int, vocabulary: int = 24, width: int = 8, layers: int = 2, places: int = 64):
        source = numpy.random.default_rng(seed)

        def values(*size):
            return source.normal(0.0, 0.6, size).astype("float32").astype("float64")

        self.embedding, self.places = values(vocabulary, width), values(places, width)
        self.blocks = [random_block(source, width, 2 * width) for _ in range(layers)]
        self.norm = (1 + values(width) / 4, values(width))
        self.out = 2 * self.embedding

    def log_probabilities(self, ids: list[int], bos: int, causal: bool = True) -> list[float]:
        read = [bos, *ids[:-1]]
        flow = self.embedding[read] + self.places[: len(read)]
        mask = numpy.tril(numpy.ones((len(read), len(read)), dtype=bool))
        for block in self.blocks:
            flow = attend(block, flow, flow, mask if causal else numpy.ones_like(mask))
        logs = log_softmax(_norm(flow, self.norm) @ self.out.T)
        return [float(logs[place, token]) for place, token in enumerate(ids)]


def make(folder) -> None:
    symbols = vocabulary(24, {0: "<|endoftext|>", 1: "<unk>"})
    net = Gpt(41)
    cases = [(ids, net.log_probabilities(ids, 0)) for ids in random_sentences(4, range(2, 24), 0)]
    facts = {"bos_id": 0, "eos_id": 0, "unk_id": None, "run": "sentence"}
    config = '{"model_type":"gpt2","vocab_size":24,"bos_token_id":0,"eos_token_id":0}\n'
    for name, past, places in (("hf-gpt", False, True), ("hf-gpt-legacy", False, False), ("hf-gpt-with-past", True, True)):
        write(folder / name, causal(net, past, places), symbols, cases, **(facts | {"run": "prefix"} if past else facts))
        (folder / name / "config.json").write_text(config)
    # Exported from an example of one sentence, with nothing said about sizes.
    fixed = causal(net, False, False)
    for value in (*fixed.graph.input, *fixed.graph.output):
        for dim, size in zip(value.type.tensor_type.shape.dim, (1, 16)):
            dim.dim_value = size
    cases = [(ids, net.log_probabilities(ids, 0)) for ids in random_sentences(4, range(2, 24), 0, (0, 1, 2, 5, 15, 30))]
    write(folder / "hf-gpt-fixed", fixed, symbols, cases, **facts)
    write(folder / "masked", causal(net, False, False, mask=False), symbols, [], **(facts | {"run": "refused"}))
    cases = [(ids, net.log_probabilities(ids, 0)) for ids in random_sentences(4, range(2, 24), 0)]
    for name, kind in (("losses", "each"), ("losses-flat", "flat"), ("losses-ends", "ends")):
        write(folder / name, losses(net, kind), symbols, cases, **facts)
        (folder / name / "config.json").write_text(config)
    wenet(folder / "wenet-decoder")


def losses(net: Gpt, kind: str):
    """`x`, `y` -> `loss` of each target, [N, L] or flat; or `x` alone -> [N, L + 1], the ends added by the graph."""
    w = Writer()
    w.input("x", INT64, ["N", "L"])
    read, wanted = "x", "y"
    if kind == "ends":
        rows = w.op("Slice", w.op("Shape", "x"), w.constant(numpy.array([0])), w.constant(numpy.array([1])))
        column = w.op("Concat", rows, w.constant(numpy.array([1])), axis=0)
        end = w.op("Expand", w.constant(numpy.array([0])), column)
        read, wanted = w.op("Concat", end, "x", axis=1), w.op("Concat", "x", end, axis=1)
    else:
        w.input("y", INT64, ["N", "L"])
    zero, one = w.constant(numpy.array([0])), w.constant(numpy.array([1]))
    length = w.op("Slice", w.op("Shape", read), one, w.constant(numpy.array([2])))
    steps = w.op("Range", w.constant(numpy.array(0)), w.op("Squeeze", length, zero), w.constant(numpy.array(1)))
    flow = w.op("Gather", w.constant(net.embedding, "embedding"), read)
    flow = w.op("Add", flow, w.op("Gather", w.constant(net.places, "places"), steps))
    seen = w.op("Not", w.op("Greater", w.op("Unsqueeze", steps, zero), w.op("Unsqueeze", steps, one)))
    bias = w.op("Where", w.op("Unsqueeze", seen, zero), w.constant(numpy.array(0.0)), w.constant(numpy.array(-1e9)))
    for block in net.blocks:
        flow = block.ops(w, flow, flow, bias)
    logits = w.op("MatMul", layer_norm_ops(w, flow, net.norm), w.constant(net.out.T))
    every = w.op("Reshape", logits, w.constant(numpy.array([-1, net.embedding.shape[0]])))
    targets = w.op("Reshape", wanted, w.constant(numpy.array([-1])))
    if kind == "flat":
        w.op("SoftmaxCrossEntropyLoss", every, targets, out="loss", reduction="none")
    else:
        loss = w.op("SoftmaxCrossEntropyLoss", every, targets, reduction="none")
        w.op("Reshape", loss, w.op("Shape", read), out="loss")
    w.output("loss", FLOAT, {"each": ["N", "L"], "flat": ["rows"], "ends": ["N", "more"]}[kind])
    return w.model(14, "pytorch")


def causal(net: Gpt, past: bool, positions: bool, mask: bool = True):
    """`input_ids`, `attention_mask`, `position_ids` and the past's keys and values -> `logits`, `present`."""
    w = Writer()
    width = net.embedding.shape[1] // HEADS
    w.input("input_ids", INT64, ["batch_size", "sequence_length"])
    w.input("attention_mask", INT64, ["batch_size", "past_sequence_length + sequence_length" if past else "sequence_length"])
    if positions:
        w.input("position_ids", INT64, ["batch_size", "sequence_length"])
    for layer in range(len(net.blocks) if past else 0):
        for part in ("key", "value"):
            dims = ["batch_size", HEADS, "past_sequence_length", width]
            w.input(f"past_key_values.{layer}.{part}", FLOAT, dims)
    one, zero = w.constant(numpy.array([1])), w.constant(numpy.array([0]))
    length = w.op("Slice", w.op("Shape", "input_ids"), one, w.constant(numpy.array([2])))
    total = w.op("Slice", w.op("Shape", "attention_mask"), one, w.constant(numpy.array([2])))
    start = w.op("Squeeze", w.op("Sub", total, length), zero)
    steps = w.op("Range", start, w.op("Squeeze", total, zero), w.constant(numpy.array(1)))
    places = "position_ids" if positions else steps
    flow = w.op("Gather", w.constant(net.embedding, "transformer.wte.weight"), "input_ids")
    flow = w.op("Add", flow, w.op("Gather", w.constant(net.places, "transformer.wpe.weight"), places))
    keys = w.op("Range", w.constant(numpy.array(0)), w.op("Squeeze", total, zero), w.constant(numpy.array(1)))
    seen = w.op("Not", w.op("Greater", w.op("Unsqueeze", keys, zero), w.op("Unsqueeze", steps, one)))
    valid = w.op("Cast", w.op("Unsqueeze", "attention_mask", one), to=BOOL)
    seen = w.op("And", w.op("Unsqueeze", seen, zero), valid) if mask else valid
    bias = w.op("Where", seen, w.constant(numpy.array(0.0)), w.constant(numpy.array(-1e9)))
    for layer, block in enumerate(net.blocks):
        normed = layer_norm_ops(w, flow, block.before)
        q, k, v = (heads_ops(w, w.op("MatMul", normed, w.constant(m))) for m in (block.query, block.key, block.value))
        if past:
            k = w.op("Concat", f"past_key_values.{layer}.key", k, out=f"present.{layer}.key", axis=2)
            v = w.op("Concat", f"past_key_values.{layer}.value", v, out=f"present.{layer}.value", axis=2)
        flow = block.rest_ops(w, flow, q, k, v, bias)
    flow = layer_norm_ops(w, flow, net.norm)
    w.op("MatMul", flow, w.constant(net.out.T, "onnx::MatMul_lm_head"), out="logits")
    w.output("logits", FLOAT, ["batch_size", "sequence_length", net.embedding.shape[0]])
    for layer in range(len(net.blocks) if past else 0):
        for part in ("key", "value"):
            dims = ["batch_size", HEADS, "past_sequence_length + sequence_length", width]
            w.output(f"present.{layer}.{part}", FLOAT, dims)
    return w.model(14, "pytorch")


def wenet(folder) -> None:
    """The attention decoder: `hyps`, `hyps_lens`, `encoder_out` -> log-softmax `score`, `r_score`."""
    size, width = 24, 8
    symbols = vocabulary(size, {0: "<blank>", 1: "<unk>", -1: "<sos/eos>"})
    source = numpy.random.default_rng(51)
    own, cross = random_block(source, width, 16), random_block(source, width, 16)
    embedding, out = source.normal(0, 0.8, (2, size, width)).astype("float32").astype("float64")
    context = source.normal(0, 1, (1, 7, width)).astype("float32")
    table = sinusoids(64, width)
    w = Writer()
    w.input("hyps", INT64, ["NBEST", "L"])
    w.input("hyps_lens", INT64, ["NBEST"])
    w.input("encoder_out", FLOAT, [1, "T", width])
    zero, one = w.constant(numpy.array([0])), w.constant(numpy.array([1]))
    length = w.op("Slice", w.op("Shape", "hyps"), one, w.constant(numpy.array([2])))
    flow = w.op("Gather", w.constant(embedding, "decoder.embed.0.weight"), "hyps")
    flow = w.op("Add", flow, w.op("Slice", w.constant(table, "pe"), zero, length, zero))
    steps = w.op("Range", w.constant(numpy.array(0)), w.op("Squeeze", length, zero), w.constant(numpy.array(1)))
    seen = w.op("Not", w.op("Greater", w.op("Unsqueeze", steps, zero), w.op("Unsqueeze", steps, one)))
    inside = w.op("Less", w.op("Unsqueeze", steps, zero), w.op("Unsqueeze", "hyps_lens", one))
    seen = w.op("And", w.op("Unsqueeze", seen, zero), w.op("Unsqueeze", inside, one))
    mask = w.op("Where", seen, w.constant(numpy.array(0.0)), w.constant(numpy.array(-1e9)))
    flow = own.ops(w, flow, flow, mask)
    flow = cross.ops(w, flow, "encoder_out", "", own_memory=False)
    logits = w.op("MatMul", flow, w.constant(out.T))
    w.op("LogSoftmax", logits, out="score", axis=-1)
    w.op("LogSoftmax", w.op("Neg", logits), out="r_score", axis=-1)
    for name in ("score", "r_score"):
        w.output(name, FLOAT, ["NBEST", "L", size])
    metadata = {"vocab_size": size, "sos_symbol": size - 1, "eos_symbol": size - 1, "is_bidirectional_decoder": False}
    cases = []
    for ids in random_sentences(5, range(2, size - 1), size - 1):
        read = [size - 1, *ids[:-1]]
        causal_mask = numpy.tril(numpy.ones((len(read), len(read)), dtype=bool))
        state = attend(own, embedding[read] + table[: len(read)], embedding[read] + table[: len(read)], causal_mask)
        memory = context[0].astype("float64")
        state = attend(cross, state, memory, numpy.ones((len(read), len(memory)), dtype=bool), own_memory=False)
        logs = log_softmax(state @ out.T)
        cases.append((ids, [float(logs[place, token]) for place, token in enumerate(ids)]))
    tensors = [{"name": "encoder_out", "shape": list(context.shape), "values": [float(v) for v in context.ravel()]}]
    write(
        folder, w.model(13, "pytorch", metadata), symbols, cases,
        bos_id=size - 1, eos_id=size - 1, unk_id=1, run="sentence", context=tensors,
    )  # fmt: skip
