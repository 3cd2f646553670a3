"""Writes the ONNX graph, node by node.

    in   tokens [N, L] int64, state_0 (h) and state_1 (c) [layers, N, H]
    out  log_probs [N, L, V] natural logarithms, next_state_0, next_state_1

No exporter is asked: the same weights always give the same bytes, and the end of the graph is
always hidden -> MatMul -> Add -> LogSoftmax, where secondpass splits off the output layer.
"""

from dataclasses import dataclass

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

# Old enough for every ONNX Runtime that secondpass accepts; newer versions would add nothing here.
_OPSET = 17
_IR_VERSION = 8


@dataclass(frozen=True)
class Layer:
    """One LSTM layer; gate rows in ONNX's order i, o, f, c."""

    input_matrix: numpy.ndarray  # [4H, E]
    recurrent_matrix: numpy.ndarray  # [4H, H]
    bias: numpy.ndarray  # [4H]


@dataclass(frozen=True)
class Weights:
    embedding: numpy.ndarray  # [V, E]
    layers: list[Layer]
    output_bias: numpy.ndarray  # [V]
    output_matrix: numpy.ndarray | None = None  # [V, H]; None: the embedding is used (then E = H)

    @property
    def vocabulary(self) -> int:
        return self.embedding.shape[0]

    @property
    def hidden(self) -> int:
        return self.layers[0].recurrent_matrix.shape[1]


def build(weights: Weights, metadata: dict[str, str]) -> onnx.ModelProto:
    """The model; `metadata` keys get the prefix `secondpass.`."""
    layers, hidden = len(weights.layers), weights.hidden
    writer = _Writer()
    writer.initialiser("embedding", weights.embedding)
    writer.node("Transpose", ["tokens"], ["tokens_by_time"], perm=[1, 0])
    writer.node("Gather", ["embedding", "tokens_by_time"], ["embedded"], axis=0)
    _write_layers(writer, weights)
    writer.node("Transpose", [f"flow_{layers - 1}"], ["hidden"], perm=[1, 0, 2])
    _write_output(writer, weights)
    graph = helper.make_graph(
        writer.nodes,
        "secondpass_lstm",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", "L"]),
            helper.make_tensor_value_info("state_0", TensorProto.FLOAT, [layers, "N", hidden]),
            helper.make_tensor_value_info("state_1", TensorProto.FLOAT, [layers, "N", hidden]),
        ],
        [
            helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["N", "L", weights.vocabulary]),
            helper.make_tensor_value_info("next_state_0", TensorProto.FLOAT, [layers, "N", hidden]),
            helper.make_tensor_value_info("next_state_1", TensorProto.FLOAT, [layers, "N", hidden]),
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


def metadata(vocabulary: int, bos: int, eos: int, unk: int, tokenizer: str) -> dict[str, str]:
    return {
        "version": "1",
        "cell": "lstm",
        "vocab_size": str(vocabulary),
        "bos_id": str(bos),
        "eos_id": str(eos),
        "unk_id": str(unk),
        "tokenizer": tokenizer,
    }


class _Writer:
    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0] or outputs[1], **attributes))

    def initialiser(self, name: str, values: numpy.ndarray) -> None:
        dtype = numpy.int64 if values.dtype.kind == "i" else numpy.float32
        self.initialisers.append(numpy_helper.from_array(numpy.ascontiguousarray(values, dtype=dtype), name))


def _write_layers(writer: _Writer, weights: Weights) -> None:
    count = len(weights.layers)
    writer.initialiser("direction_axis", numpy.array([1]))
    before = [["state_0"], ["state_1"]]
    after = [["next_state_0"], ["next_state_1"]]
    if count > 1:
        for part in (0, 1):
            before[part] = [f"state_{part}_{layer}" for layer in range(count)]
            after[part] = [f"next_state_{part}_{layer}" for layer in range(count)]
            writer.node("Split", [f"state_{part}"], before[part], axis=0)
    flow = "embedded"
    for index, layer in enumerate(weights.layers):
        names = [f"lstm_{index}.W", f"lstm_{index}.R", f"lstm_{index}.B"]
        # The leading 1 is the direction; B holds the input's and the recurrence's bias, the latter is zero.
        writer.initialiser(names[0], layer.input_matrix[None])
        writer.initialiser(names[1], layer.recurrent_matrix[None])
        writer.initialiser(names[2], numpy.concatenate([layer.bias, numpy.zeros_like(layer.bias)])[None])
        writer.node(
            "LSTM",
            [flow, *names, "", before[0][index], before[1][index]],
            [f"lstm_{index}", after[0][index], after[1][index]],
            hidden_size=weights.hidden,
        )
        flow = f"flow_{index}"
        writer.node("Squeeze", [f"lstm_{index}", "direction_axis"], [flow])
    if count > 1:
        for part in (0, 1):
            writer.node("Concat", after[part], [f"next_state_{part}"], axis=0)


def _write_output(writer: _Writer, weights: Weights) -> None:
    if weights.output_matrix is None:
        writer.node("Transpose", ["embedding"], ["output_matrix"], perm=[1, 0])
    else:
        writer.initialiser("output_matrix", weights.output_matrix.T)
    writer.initialiser("output_bias", weights.output_bias)
    writer.node("MatMul", ["hidden", "output_matrix"], ["projected"])
    writer.node("Add", ["projected", "output_bias"], ["logits"])
    writer.node("LogSoftmax", ["logits"], ["log_probs"], axis=-1)
