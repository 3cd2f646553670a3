"""nn.LSTM, nn.GRU and nn.RNN as torch.onnx writes them, TorchScript and dynamo, and word_language_model."""

import numpy

from . import cells
from .writer import BFLOAT16, DOUBLE, FLOAT, FLOAT16, INT32, INT64, Writer, random_sentences, vocabulary, write

SYMBOLS = vocabulary(24, {0: "<s>", 1: "</s>", 2: "<unk>"})
FACTS = {"bos_id": 0, "eos_id": 1, "unk_id": 2, "run": "step"}
LINES = random_sentences(3, range(2, 24), 1)


def make(folder, quantise) -> None:
    word_language_model(folder)
    legacy(folder)
    dynamo(folder)
    other_types(folder)
    arrangements(folder)
    net = cells.random_net(39, "lstm")
    model = network(net, names=("input", "h", "c"), out="output", after=("hn", "cn"))
    _write(folder / "lstm-int8", net, quantise(model), tolerance=0.5)
    both = cells.random_net(40, "lstm")
    write(folder / "bidirectional", bidirectional(both), SYMBOLS, [], **(FACTS | {"run": "refused"}))


def word_language_model(folder) -> None:
    """Time-major, 35 by 1, the output flattened to two dimensions; `<eos>` is also the first context."""
    symbols = vocabulary(24, {3: "<eos>", 5: "<unk>"})
    facts = {"bos_id": 3, "eos_id": 3, "unk_id": 5, "run": "step"}
    lines = random_sentences(6, range(4, 24), 3, lengths=(0, 1, 2, 5, 9, 33, 34, 35, 36, 80))
    for name, cell, layers, inputs, output, after in (
        ("wlm-legacy", "lstm", 2, ("input.1", "onnx::Slice_1", "onnx::Slice_2"), "167", ("160", "161")),
        ("wlm-dynamo", "lstm", 2, ("input", "hidden_0", "hidden_1"), "log_softmax", ("getitem_1", "getitem_2")),
        ("wlm-gru", "gru", 1, ("input.1", "onnx::GRU_1"), "80", ("73",)),
    ):
        net = cells.random_net(31, cell, layers=layers)
        w = Writer()
        w.input(inputs[0], INT64, [35, 1])
        for state in inputs[1:]:
            w.input(state, FLOAT, [layers, 1, net.hidden])
        embedded = w.op("Gather", w.constant(net.embedding, "encoder.weight"), inputs[0])
        before, later = cells.stacked_states(w, net, list(inputs[1:]), list(after))
        flow = cells.recurrent(w, net, embedded, before, later, frozen=(35, 1) if name == "wlm-dynamo" else ())
        cells.join_states(w, list(after), later)
        decoded = cells.project(w, net, flow)
        decoded = w.op("Reshape", decoded, w.constant(numpy.array([-1, net.vocabulary])))
        w.op("LogSoftmax", decoded, out=output, axis=1)
        w.output(output, FLOAT, [35, net.vocabulary])
        for state in after:
            w.output(state, FLOAT, [layers, 1, net.hidden])
        model = w.model(20, "pytorch", ir_version=9)
        write(folder / name, model, symbols, _cases(net, lines, 3), external=name == "wlm-dynamo", **facts)


def legacy(folder) -> None:
    """batch_first: a Transpose before and after; numeric output names, out of order."""
    lstm = cells.random_net(32, "lstm", layers=2)
    model = network(lstm, names=("input.1", "onnx::Slice_1", "onnx::Slice_2"), out="166", after=("162", "163"))
    _write(folder / "legacy-lstm", lstm, model)
    gru = cells.random_net(33, "gru", layers=2)
    _write(folder / "legacy-gru-no-state", gru, network(gru, names=("input.1",), out="176", after=()))
    rnn = cells.random_net(34, "rnn")
    model = network(rnn, names=("input.1", "onnx::RNN_1"), out="80", after=("73",), log_softmax=True)
    _write(folder / "legacy-rnn", rnn, model)
    relu = cells.random_net(35, "rnn_relu", hidden=5)
    _write(folder / "legacy-rnn-relu-no-state", relu, network(relu, names=("input.1",), out="97", after=()))


def dynamo(folder) -> None:
    """Weights beside the model, gates put in order by nodes of the graph, names of forward's parameters."""
    lstm = cells.random_net(36, "lstm", layers=2)
    model = network(lstm, names=("tokens_in", "h", "c"), out="linear", after=("getitem_1", "getitem_2"), dynamo=True)
    _write(folder / "dynamo-lstm", lstm, model, external=True)
    gru = cells.random_net(37, "gru")
    model = network(gru, names=("src",), out="log_softmax", after=(), dynamo=True, log_softmax=True)
    _write(folder / "dynamo-gru-no-state", gru, model, external=True)
    # nn.RNN is unrolled, and its time is frozen.
    rnn = cells.random_net(38, "rnn")
    lines = random_sentences(7, range(2, 24), 1, lengths=(0, 1, 2, 5, 9))
    cases = _cases(rnn, lines, 0)
    facts = FACTS | {"run": "sentence"}
    write(folder / "dynamo-rnn-unrolled", unrolled(rnn, 12), SYMBOLS, cases, external=True, **facts)


def other_types(folder) -> None:
    wide = cells.random_net(42, "lstm")
    half = wide.rounded("float16")
    names, after = ("x", "h0", "c0"), ("hn", "cn")
    model = network(half, names=names, out="logits", after=after, floats=FLOAT16)
    _write(folder / "lstm-fp16", half, model, tolerance=1e-2)
    for name, floats in (("lstm-fp64", DOUBLE), ("lstm-bf16", BFLOAT16)):
        model = network(wide, names=names, out="logits", after=after, floats=floats)
        write(folder / name, model, SYMBOLS, [], **(FACTS | {"run": "refused"}))
    feed_forward(folder)


def arrangements(folder) -> None:
    """Names that say nothing; ids of other types, other scores, other orders of the axes."""
    for name, cell, options in (
        ("plain-int32-log-probs", "lstm", {"ids": INT32, "log_softmax": True}),
        ("plain-float-probabilities", "gru", {"ids": FLOAT, "softmax": True}),
        ("plain-time-major", "lstm", {"time_major": True}),
        ("plain-time-major-no-state", "gru", {"time_major": True, "states": False, "log_softmax": True}),
        ("plain-batch-first-states", "gru", {"states_batch_first": True, "softmax": True}),
    ):
        net = cells.random_net(44 + len(name), cell)
        count = cells.parts(net) if options.pop("states", True) else 0
        names = ("a", *(f"b{part}" for part in range(count)))
        model = network(net, names=names, out="z", after=tuple(f"y{part}" for part in range(count)), **options)
        _write(folder / name, net, model)


def network(
    net, names, out, after, floats=FLOAT, ids=INT64, dynamo=False, log_softmax=False, softmax=False,
    time_major=False, states_batch_first=False,
):  # fmt: skip
    w = Writer(floats)
    batch, time = ("s31", "s4") if dynamo else ("N", "T")
    layers, hidden, size = len(net.layers), net.hidden, net.vocabulary
    order = [time, batch] if time_major else [batch, time]
    w.input(names[0], ids, order)
    shape = [batch, layers, hidden] if states_batch_first else [layers, batch, hidden]
    for state in names[1:]:
        w.input(state, floats, shape)
    tokens = names[0] if ids == INT64 else w.op("Cast", names[0], to=INT64)
    flow = w.op("Gather", w.constant(net.embedding, "embedding.weight"), tokens)
    flow = flow if time_major else w.op("Transpose", flow, perm=[1, 0, 2])
    states, last = list(names[1:]), list(after)
    if states_batch_first:
        states = [w.op("Transpose", state, perm=[1, 0, 2]) for state in states]
        last = [f"{state}_turned" for state in last]
    if states:
        before, later = cells.stacked_states(w, net, states, last)
    else:
        zeros = [cells.zero_states(w, net, flow, 1) for _ in net.layers]
        before, later = [zeros] * cells.parts(net), [[""] * layers] * cells.parts(net)
    fixed = {"direction": "forward", "layout": 0} if dynamo else {}
    if dynamo and net.cell == "lstm":
        fixed["input_forget"] = 0
    flow = cells.recurrent(w, net, flow, before, later, **fixed)
    cells.join_states(w, last, later)
    if dynamo:
        _reorder_by_nodes(w, net)
    if states_batch_first:
        for state, turned in zip(after, last):
            w.op("Transpose", turned, out=state, perm=[1, 0, 2])
    flow = flow if time_major else w.op("Transpose", flow, perm=[1, 0, 2])
    ends = log_softmax or softmax
    flow = cells.project(w, net, flow, out="" if ends else out)
    if ends:
        w.op("LogSoftmax" if log_softmax else "Softmax", flow, out=out, axis=-1)
    w.output(out, floats, [*order, size])
    for state in after:
        w.output(state, floats, shape)
    opset, version = (20, 10) if dynamo else (22 if floats == BFLOAT16 else 17, 9)
    return w.model(opset, "pytorch", ir_version=version)


def _reorder_by_nodes(w: Writer, net) -> None:
    """Turns the weights back into PyTorch's order and leaves it to Slice and Concat to reorder them."""
    from onnx import numpy_helper

    count, made = cells.GATES[net.cell], []
    for node in [node for node in w.nodes if node.op_type in ("LSTM", "GRU", "RNN")]:
        for place in (1, 2):
            name = node.input[place]
            tensor = next(t for t in w.initialisers if t.name == name)
            parts = numpy.split(numpy_helper.to_array(tensor), count, axis=1)
            back = [None] * count
            for to, source in enumerate(cells.ORDER[net.cell]):
                back[source] = parts[to]
            tensor.CopyFrom(numpy_helper.from_array(numpy.concatenate(back, axis=1)[0], name))
            size, before = net.hidden, len(w.nodes)
            pieces = []
            for source in cells.ORDER[net.cell]:
                ends = [w.constant(numpy.array([value])) for value in (source * size, (source + 1) * size, 0)]
                pieces.append(w.op("Slice", name, *ends))
            joined = w.op("Concat", *pieces, axis=0)
            node.input[place] = w.op("Unsqueeze", joined, w.constant(numpy.array([0])))
            made += w.nodes[before:]
            del w.nodes[before:]
    w.nodes[:0] = made


def unrolled(net, steps: int):
    w = Writer()
    w.input("input_ids_in", INT64, ["s31", steps])
    w_ih, w_hh, b_ih, b_hh = net.layers[0]
    flow = w.op("Gather", w.constant(net.embedding, "embedding.weight"), "input_ids_in")
    shape = w.op("Concat", w.op("Shape", "input_ids_in", start=0, end=1), w.constant(numpy.array([net.hidden])), axis=0)
    state = w.op("Expand", w.constant(numpy.zeros((1, 1))), shape)
    into, again = w.constant(w_ih.T, "val_0"), w.constant(w_hh.T, "val_1")
    biases = w.constant(b_ih + b_hh, "val_2")
    states = []
    for step in range(steps):
        here = w.op("Gather", flow, w.constant(numpy.array(step)), axis=1)
        total = w.op("Add", w.op("MatMul", here, into), w.op("MatMul", state, again))
        state = w.op("Tanh", w.op("Add", total, biases))
        states.append(w.op("Unsqueeze", state, w.constant(numpy.array([1]))))
    cells.project(w, net, w.op("Concat", *states, axis=1), out="linear")
    w.output("linear", FLOAT, ["s31", steps, net.vocabulary])
    return w.model(20, "pytorch", ir_version=10)


def bidirectional(net):
    w = Writer()
    w.input("input.1", INT64, ["N", "T"])
    flow = w.op("Transpose", w.op("Gather", w.constant(net.embedding), "input.1"), perm=[1, 0, 2])
    W, R, B = (numpy.concatenate([part, part[:, ::-1]]) for part in cells.onnx_weights(net, net.layers[0]))
    weights = [w.constant(part) for part in (W, R, B)]
    w.op("LSTM", flow, *weights, out=["y"], hidden_size=net.hidden, direction="bidirectional")
    flow = w.op("Reshape", w.op("Transpose", "y", perm=[2, 0, 1, 3]), w.constant(numpy.array([0, 0, -1])))
    w.op("MatMul", flow, w.constant(numpy.tile(net.out.T, (2, 1))), out="97")
    w.output("97", FLOAT, ["N", "T", net.vocabulary])
    return w.model(17, "pytorch")


def feed_forward(folder) -> None:
    """Bengio's network over the last three tokens, in float32 and in float64."""
    source = numpy.random.default_rng(43)
    window, width, hidden, size = 3, 6, 10, len(SYMBOLS)
    embedding, first, out = (source.normal(0, 0.8, s).astype("float32").astype("float64") for s in
                             ((size, width), (window * width, hidden), (hidden, size)))  # fmt: skip
    cases = []
    for ids in LINES:
        history = [0] * window
        logs = []
        for token in ids:
            flow = numpy.tanh(embedding[history].ravel() @ first)
            logs.append(float(cells.log_softmax(flow @ out)[token]))
            history = [*history[1:], token]
        cases.append((ids, logs))
    for name, floats, sidecar in (("feed-forward", FLOAT, ""), ("feed-forward-fp64", DOUBLE, "")):
        w = Writer(floats)
        w.input("history", INT64, ["N", window])
        flow = w.op("Gather", w.constant(embedding), "history")
        flow = w.op("Reshape", flow, w.constant(numpy.array([0, window * width])))
        flow = w.op("Tanh", w.op("MatMul", flow, w.constant(first)))
        w.op("MatMul", flow, w.constant(out), out="scores")
        w.output("scores", floats, ["N", size])
        model = w.model(17, "pytorch")
        write(folder / name, model, SYMBOLS, cases, sidecar=sidecar, **(FACTS | {"run": "window"}))


def _write(folder, net, model, **more) -> None:
    write(folder, model, SYMBOLS, _cases(net, LINES, 0), **(FACTS | more))


def _cases(net, lines, bos: int):
    return [(ids, cells.log_probabilities(net, ids, bos)) for ids in lines]
