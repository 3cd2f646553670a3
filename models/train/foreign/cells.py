"""Recurrent networks in the PyTorch convention: random weights, float64 evaluation, ONNX nodes."""

from dataclasses import dataclass, field

import numpy

from .writer import Writer

GATES = {"lstm": 4, "gru": 3, "rnn": 1, "rnn_relu": 1}
# Where PyTorch's gates (i f g o; r z n) go in ONNX (i o f c; z r h).
ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0], "rnn_relu": [0]}


@dataclass
class Net:
    """Embedding, layers of (W_ih, W_hh, b_ih, b_hh), and the output layer."""

    cell: str
    embedding: numpy.ndarray
    layers: list[tuple]
    out: numpy.ndarray
    bias: numpy.ndarray
    # GRU of old Keras: the reset gate is applied before the recurrent matrix.
    reset_before: bool = False
    extra: dict = field(default_factory=dict)

    @property
    def hidden(self) -> int:
        return self.layers[0][1].shape[1]

    @property
    def vocabulary(self) -> int:
        return self.out.shape[0]

    def rounded(self, dtype: str) -> "Net":
        """With weights as a file of this element type holds them."""

        def turn(values):
            if dtype == "bfloat16":
                bits = numpy.ascontiguousarray(values, dtype="float32").view("uint32")
                return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view("float32").astype("float64")
            return values.astype(dtype).astype("float64")

        layers = [tuple(turn(part) for part in layer) for layer in self.layers]
        return Net(self.cell, turn(self.embedding), layers, turn(self.out), turn(self.bias), self.reset_before)


def random_net(seed, cell, vocabulary=24, embedding=6, hidden=8, layers=1, reset_before=False) -> Net:
    """Large enough weights that probabilities are far from uniform and the state matters."""
    source = numpy.random.default_rng(seed)

    def values(*size):
        return source.normal(0.0, 0.7, size).astype("float32").astype("float64")

    stack = []
    for layer in range(layers):
        rows = GATES[cell] * hidden
        width = embedding if layer == 0 else hidden
        stack.append((values(rows, width), values(rows, hidden), values(rows), values(rows)))
    net = Net(cell, values(vocabulary, embedding), stack, values(vocabulary, hidden), values(vocabulary))
    net.reset_before = reset_before
    return net


def log_probabilities(net: Net, ids: list[int], bos: int | None, start: list[int] = ()) -> list[float]:
    """ln p of each id given those before it; zeros, then `start`, then `bos` are read first."""
    states = [(numpy.zeros(net.hidden), numpy.zeros(net.hidden)) for _ in net.layers]
    for token in start:
        _read(net, token, states)
    result = []
    for read, wanted in zip([bos, *ids[:-1]], ids):
        logits = net.out @ _read(net, read, states) + net.bias
        result.append(log_softmax(logits)[wanted])
    return [float(value) for value in result]


def log_softmax(logits: numpy.ndarray) -> numpy.ndarray:
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - numpy.log(numpy.exp(logits - top).sum(axis=-1, keepdims=True))


def _read(net: Net, token: int, states: list) -> numpy.ndarray:
    flow = net.embedding[token]
    for index, layer in enumerate(net.layers):
        states[index] = _cell(net, layer, flow, *states[index])
        flow = states[index][0]
    return flow


def _cell(net: Net, layer: tuple, flow, hidden, cell):
    w_ih, w_hh, b_ih, b_hh = layer
    here, there = w_ih @ flow + b_ih, w_hh @ hidden + b_hh
    if net.cell == "lstm":
        enter, forget, candidate, leave = numpy.split(here + there, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * numpy.tanh(candidate)
        return sigmoid(leave) * numpy.tanh(cell), cell
    if net.cell == "gru":
        size = net.hidden
        reset = sigmoid(here[:size] + there[:size])
        update = sigmoid(here[size : 2 * size] + there[size : 2 * size])
        if net.reset_before:
            inner = w_hh[2 * size :] @ (reset * hidden) + b_hh[2 * size :]
        else:
            inner = reset * there[2 * size :]
        return (1 - update) * numpy.tanh(here[2 * size :] + inner) + update * hidden, cell
    total = here + there
    return (numpy.maximum(total, 0) if net.cell == "rnn_relu" else numpy.tanh(total)), cell


def sigmoid(values):
    return 1.0 / (1.0 + numpy.exp(-values))


def onnx_weights(net: Net, layer: tuple) -> tuple:
    """W, R and B of an ONNX node: gates in ONNX's order, a leading axis for the direction."""

    def turn(values):
        parts = numpy.split(values, GATES[net.cell])
        return numpy.concatenate([parts[place] for place in ORDER[net.cell]])

    w_ih, w_hh, b_ih, b_hh = layer
    return turn(w_ih)[None], turn(w_hh)[None], numpy.concatenate([turn(b_ih), turn(b_hh)])[None]


def recurrent(
    writer: Writer, net: Net, flow: str, states: list[list[str]], after: list[list[str]], frozen=(), **attributes
) -> str:
    """The layers over `flow` [L, N, E]; gives [L, N, H]. `states[part][layer]` are the first states
    ("" for none), `after[part][layer]` the names of the last. With `frozen`, L and N are written into
    the graph, as the dynamo exporter does."""
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(net.cell, "RNN")
    if kind == "GRU":
        attributes["linear_before_reset"] = 0 if net.reset_before else 1
    if kind == "RNN":
        attributes["activations"] = ["Relu" if net.cell == "rnn_relu" else "Tanh"]
    for index, layer in enumerate(net.layers):
        inputs = [flow, *(writer.constant(part) for part in onnx_weights(net, layer)), ""]
        inputs += [part[index] for part in states]
        while inputs[-1] == "":
            inputs.pop()
        outputs = [writer._fresh(kind), *(part[index] for part in after)]
        writer.op(kind, *inputs, out=outputs, hidden_size=net.hidden, **attributes)
        if frozen:
            turned = writer.op("Transpose", outputs[0], perm=[0, 2, 1, 3])
            flow = writer.op("Reshape", turned, writer.constant(numpy.array([*frozen, net.hidden])), allowzero=0)
        else:
            flow = writer.op("Squeeze", outputs[0], writer.constant(numpy.array([1])))
    return flow


def stacked_states(writer: Writer, net: Net, names: list[str], after: list[str]) -> tuple[list, list]:
    """As PyTorch exports states of many layers: a Slice for each before, to be put together by
    [`join_states`] after; none of it for one layer."""
    count = len(net.layers)
    if count == 1:
        return [[name] for name in names], [[name] for name in after]
    before, later = [], []
    for name, last in zip(names, after):
        parts = []
        for layer in range(count):
            bounds = [writer.constant(numpy.array([value])) for value in (layer, layer + 1, 0)]
            parts.append(writer.op("Slice", name, bounds[0], bounds[1], bounds[2]))
        before.append(parts)
        later.append([f"{last}_of_{layer}" for layer in range(count)])
    return before, later


def join_states(writer: Writer, after: list[str], later: list[list[str]]) -> None:
    for name, parts in zip(after, later):
        if len(parts) > 1:
            writer.op("Concat", *parts, out=name, axis=0)


def project(writer: Writer, net: Net, flow: str, out: str = "") -> str:
    """The output layer, as torch.onnx writes nn.Linear over three dimensions."""
    product = writer.op("MatMul", flow, writer.constant(net.out.T, writer._fresh("onnx::MatMul")))
    return writer.op("Add", writer.constant(net.bias, "output.bias"), product, out=out)


def zero_states(writer: Writer, net: Net, like: str, axis: int) -> str:
    """Zeros [1, N, H] with N read from dimension `axis` of `like`, as the TorchScript exporter makes them."""
    size = writer.op("Gather", writer.op("Shape", like), writer.constant(numpy.array(axis)), axis=0)
    size = writer.op("Unsqueeze", size, writer.constant(numpy.array([0])))
    ends = [writer.constant(numpy.array([value])) for value in (1, net.hidden)]
    shape = writer.op("Concat", ends[0], size, ends[1], axis=0)
    return writer.op("Expand", writer.constant(numpy.zeros((1, 1, 1))), shape)


def parts(net: Net) -> int:
    return 2 if net.cell == "lstm" else 1
