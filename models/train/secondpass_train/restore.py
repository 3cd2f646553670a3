"""Reads a model back: from a checkpoint, or from a model.onnx that `export` wrote, whatever its storage.

So a shipped model, which has no checkpoint beside it, can be fine-tuned too.
"""

from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper

from . import checkpoint
from . import weights as arrays
from .cells import CELLS
from .model import FEED_FORWARD, LanguageModel
from .weights import Layer, Weights


def load(path: Path, dropout: float = 0.0) -> LanguageModel:
    """The model at a path: an .onnx file, a checkpoint, or a folder that holds one of them."""
    if path.is_dir() and (path / "model.onnx").is_file():
        path = path / "model.onnx"
    if path.suffix == ".onnx":
        return arrays.to_model(weights_of(path), dropout)
    return checkpoint.load_model(checkpoint.find(path), dropout)


def weights_of(path: Path) -> Weights:
    model = onnx.load(path)
    properties = {pair.key: pair.value for pair in model.metadata_props}
    cell = properties.get("secondpass.cell")
    if cell not in (*CELLS, FEED_FORWARD):
        raise SystemExit(f"{path}: not written by this exporter (secondpass.cell is {cell!r}): its weights cannot be read")
    constants = _Constants(model.graph)
    embedding = constants["embedding"]
    tied = "output_matrix" in constants.nodes and constants.nodes["output_matrix"].op_type == "Transpose"
    kept = None if tied else constants["output_matrix"].T
    if cell == FEED_FORWARD:
        layers, order = _feed_forward(constants, len(embedding[0]))
    else:
        layers, order = _recurrent(constants, model.graph, cell), 0
    return Weights(embedding, layers, constants["output_bias"], kept, cell, order)


class _Constants:
    """Values of a graph's weights by name: as they are, through Cast, or through Cast and Mul."""

    def __init__(self, graph):
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = {output: node for node in graph.node for output in node.output}

    def __getitem__(self, name: str) -> numpy.ndarray:
        if name in self.tensors:
            return numpy_helper.to_array(self.tensors[name])
        node = self.nodes[name]
        values = self[node.input[0]]
        if node.op_type == "Cast":
            return values.astype(numpy.float32)
        if node.op_type == "Mul":
            return values * self[node.input[1]]
        raise SystemExit(f"the weights {name} come out of {node.op_type}: this exporter does not write that")

    def get(self, name: str) -> numpy.ndarray | None:
        return self[name] if name in self.tensors or name in self.nodes else None


def _recurrent(constants, graph, cell: str) -> list[Layer]:
    operator = cell.split("-")[0].upper()
    layers = []
    for node in (node for node in graph.node if node.op_type == operator):
        inputs, recurrent, bias = (constants[name][0] for name in node.input[1:4])
        from_input, from_recurrence = numpy.split(bias, 2)
        size = recurrent.shape[1]
        extra = None
        if operator == "LSTM" and len(node.input) > 7:
            extra = constants[node.input[7]][0]
        elif cell == "gru":
            extra = from_recurrence[2 * size :]
            from_recurrence = numpy.concatenate([from_recurrence[: 2 * size], numpy.zeros(size, numpy.float32)])
        # Outside a reset gate the two biases are one.
        bias = from_input + from_recurrence
        if CELLS[cell].blocks:
            inputs, recurrent, bias = (_blocks(values, CELLS[cell].blocks, size) for values in (inputs, recurrent, bias))
        layers.append(Layer(inputs, recurrent, bias, extra))
    return layers


def _feed_forward(constants, embedding: int) -> tuple[list[Layer], int]:
    window = constants["window_0.table"]
    layers = [Layer(window.reshape(len(window), -1), None, constants["window_0.B"])]
    while (table := constants.get(f"dense_{len(layers)}.table")) is not None:
        layers.append(Layer(table, None, constants[f"dense_{len(layers)}.B"]))
    return layers, window.size // len(window) // embedding + 1


def _blocks(values, blocks, size):
    return numpy.concatenate([values[block * size : (block + 1) * size] for block in blocks])
