"""The layers of the graph: ONNX's own recurrent operators, and a convolution for the feed-forward network."""

import numpy

from .cells import CELLS
from .weights import Layer, Weights

# sigmoid(30) is 1 in float32: what is kept is kept whole.
_ALWAYS_OPEN = 30.0


def write_recurrent(writer, weights: Weights) -> None:
    """From `embedded` [L, N, E] and the states to `hidden` [N, L, H] and the next states."""
    count, states = len(weights.layers), range(CELLS[weights.cell].states)
    writer.initialiser("direction_axis", numpy.array([1]))
    before = [[f"state_{part}"] for part in states]
    after = [[f"next_state_{part}"] for part in states]
    if count > 1:
        for part in states:
            before[part] = [f"state_{part}_{layer}" for layer in range(count)]
            after[part] = [f"next_state_{part}_{layer}" for layer in range(count)]
            writer.node("Split", [f"state_{part}"], before[part], axis=0)
    flow = "embedded"
    for index, layer in enumerate(weights.layers):
        flow = _write_layer(writer, weights, index, layer, flow, [b[index] for b in before], [a[index] for a in after])
    if count > 1:
        for part in states:
            writer.node("Concat", after[part], [f"next_state_{part}"], axis=0)
    writer.node("Transpose", [flow], ["hidden"], perm=[1, 0, 2])


def write_feed_forward(writer, weights: Weights) -> None:
    """The first layer is a convolution over the embeddings of the state and of the tokens."""
    past, size = weights.order - 2, weights.embedding.shape[1]
    line = "embedded"
    if past:
        line = "line"
        writer.node("Concat", ["state_0", "embedded"], [line], axis=0)
        writer.initialiser("past_start", numpy.array([-past]))
        # To the end, however long that is.
        writer.initialiser("past_end", numpy.array([numpy.iinfo(numpy.int64).max]))
        writer.initialiser("time_axis", numpy.array([0]))
        writer.node("Slice", [line, "past_start", "past_end", "time_axis"], ["next_state_0"])
    writer.node("Transpose", [line], ["channels"], perm=[1, 2, 0])
    first = weights.layers[0]
    # [H, places * E], oldest first, as a kernel [H, E, places].
    writer.matrix("window_0.table", first.input_matrix, (weights.hidden, past + 1, size))
    writer.node("Transpose", ["window_0.table"], ["window_0.W"], perm=[0, 2, 1])
    writer.initialiser("window_0.B", first.bias)
    writer.node("Conv", ["channels", "window_0.W", "window_0.B"], ["summed_0"])
    writer.node("Transpose", ["summed_0"], ["by_row"], perm=[0, 2, 1])
    flow = "by_row"
    for index, layer in enumerate(weights.layers):
        if index:
            writer.matrix(f"dense_{index}.table", layer.input_matrix)
            writer.node("Transpose", [f"dense_{index}.table"], [f"dense_{index}.W"], perm=[1, 0])
            writer.initialiser(f"dense_{index}.B", layer.bias)
            writer.node("MatMul", [flow, f"dense_{index}.W"], [f"product_{index}"])
            writer.node("Add", [f"product_{index}", f"dense_{index}.B"], [f"summed_{index}"])
            flow = f"summed_{index}"
        activated = "hidden" if index + 1 == len(weights.layers) else f"flow_{index}"
        writer.node("Tanh", [flow], [activated])
        flow = activated


def _write_layer(writer, weights, index, layer, flow, before, after) -> str:
    operator = weights.cell.split("-")[0].upper()
    layer = _as_onnx(weights.cell, layer)
    prefix = f"{operator.lower()}_{index}"
    names = [f"{prefix}.W", f"{prefix}.R", f"{prefix}.B"]
    # The leading 1 is the direction; B holds the input's and the recurrence's bias.
    writer.matrix(names[0], layer.input_matrix, (1, *layer.input_matrix.shape))
    writer.matrix(names[1], layer.recurrent_matrix, (1, *layer.recurrent_matrix.shape))
    recurrent_bias = numpy.zeros_like(layer.bias)
    attributes = {"hidden_size": weights.hidden}
    inputs = [flow, *names, "", *before]
    if operator == "GRU":
        attributes["linear_before_reset"] = int(weights.cell == "gru")
        if layer.extra is not None:
            recurrent_bias[2 * weights.hidden :] = layer.extra
    elif layer.extra is not None:
        writer.initialiser(f"{prefix}.P", layer.extra[None])
        inputs.append(f"{prefix}.P")
    writer.initialiser(names[2], numpy.concatenate([layer.bias, recurrent_bias])[None])
    writer.node(operator, inputs, [prefix, *after], **attributes)
    writer.node("Squeeze", [prefix, "direction_axis"], [f"flow_{index}"])
    return f"flow_{index}"


def _as_onnx(cell: str, layer: Layer) -> Layer:
    """A cell with fewer gates than ONNX's LSTM gets the missing one: always open, whatever it sees."""
    blocks = CELLS[cell].blocks
    if not blocks:
        return layer
    size = layer.recurrent_matrix.shape[1]

    def filled(values, rest):
        whole = numpy.full((4 * size, *values.shape[1:]), rest, dtype=values.dtype)
        for source, target in enumerate(blocks):
            whole[target * size : (target + 1) * size] = values[source * size : (source + 1) * size]
        return whole

    return Layer(filled(layer.input_matrix, 0), filled(layer.recurrent_matrix, 0), filled(layer.bias, _ALWAYS_OPEN))
