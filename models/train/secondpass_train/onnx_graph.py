"""Writes the ONNX graph, node by node.

    in   tokens [N, L] int64, state_K
    out  log_probs [N, L, V] natural logarithms, next_state_K

State of the recurrent cells: [layers, N, H], hidden vectors (state_0) and, for LSTMs, cells (state_1). State of
a feed-forward network: [order - 2, N, E], the embeddings of the last tokens. All are zeros at the start.

No exporter is asked: the same weights always give the same bytes, and the end of the graph is
always hidden -> MatMul -> Add -> LogSoftmax, where secondpass splits off the output layer.
"""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import onnx_cells
from .model import FEED_FORWARD
from .weights import Layer, Weights, quantised

__all__ = ["Layer", "Weights", "build", "metadata"]

# Old enough for every ONNX Runtime that secondpass accepts; newer versions would add nothing here.
_OPSET = 17
_IR_VERSION = 8


def build(weights: Weights, metadata: dict[str, str], storage: str = "fp32") -> onnx.ModelProto:
    """The model; `metadata` keys get the prefix `secondpass.`."""
    writer = Writer(storage)
    writer.matrix("embedding", weights.embedding)
    writer.node("Transpose", ["tokens"], ["tokens_by_time"], perm=[1, 0])
    writer.node("Gather", ["embedding", "tokens_by_time"], ["embedded"], axis=0)
    write_layers = onnx_cells.write_feed_forward if weights.cell == FEED_FORWARD else onnx_cells.write_recurrent
    write_layers(writer, weights)
    _write_output(writer, weights)
    states = [
        (f"state_{index}", [first, "N", last]) for index, (first, last) in enumerate(weights.shape.states)
    ]
    graph = helper.make_graph(
        writer.nodes,
        f"secondpass_{weights.cell}",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", "L"]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in states),
        ],
        [
            helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["N", "L", weights.vocabulary]),
            *(helper.make_tensor_value_info(f"next_{name}", TensorProto.FLOAT, dims) for name, dims in states),
        ],
        writer.initialisers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="secondpass_train",
    )
    helper.set_model_props(model, {f"secondpass.{key}": value for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def metadata(vocabulary: int, bos: int, eos: int, unk: int, tokenizer: str, cell: str = "lstm") -> dict[str, str]:
    return {
        "version": "1",
        "cell": cell,
        "vocab_size": str(vocabulary),
        "bos_id": str(bos),
        "eos_id": str(eos),
        "unk_id": str(unk),
        "tokenizer": tokenizer,
    }


class Writer:
    """Nodes and weights in the order of their making."""

    def __init__(self, storage: str):
        self.storage = storage
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0] or outputs[1], **attributes))

    def initialiser(self, name: str, values: numpy.ndarray) -> None:
        """A vector or constant as it is: int64 or float32."""
        dtype = numpy.int64 if values.dtype.kind == "i" else numpy.float32
        self._keep(name, values.astype(dtype))

    def matrix(self, name: str, values: numpy.ndarray, shape: tuple[int, ...] | None = None, turned=False) -> None:
        """A matrix in the storage of this file, seen by the graph as float32; reshaped or transposed if told so."""
        shape = shape or values.shape

        def laid(stored):
            return stored.T if turned else stored.reshape(shape)

        if self.storage == "fp16":
            self._keep(f"{name}.fp16", laid(values.astype(numpy.float16)))
            self.node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT)
        elif self.storage == "int8":
            integers, scales = quantised(values)
            self._keep(f"{name}.int8", laid(integers))
            axis = 1 if turned else shape.index(len(values))
            self._keep(f"{name}.scale", scales.reshape([-1 if place == axis else 1 for place in range(len(shape))]))
            # Not DequantizeLinear: ONNX Runtime makes one before a MatMul into a product of 8-bit numbers,
            # with activations rounded as they come: another model, off by a hundredth of a nat.
            self.node("Cast", [f"{name}.int8"], [f"{name}.steps"], to=TensorProto.FLOAT)
            self.node("Mul", [f"{name}.steps", f"{name}.scale"], [name])
        else:
            self._keep(name, laid(values.astype(numpy.float32)))

    def _keep(self, name: str, values: numpy.ndarray) -> None:
        self.initialisers.append(numpy_helper.from_array(numpy.ascontiguousarray(values), name))


def _write_output(writer: Writer, weights: Weights) -> None:
    if weights.output_matrix is None:
        writer.node("Transpose", ["embedding"], ["output_matrix"], perm=[1, 0])
    else:
        writer.matrix("output_matrix", weights.output_matrix, turned=True)
    writer.initialiser("output_bias", weights.output_bias)
    writer.node("MatMul", ["hidden", "output_matrix"], ["projected"])
    writer.node("Add", ["projected", "output_bias"], ["logits"])
    writer.node("LogSoftmax", ["logits"], ["log_probs"], axis=-1)
