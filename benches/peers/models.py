"""The models compared: the shipped one, and made ones of other shapes with random weights."""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy
import onnx
import sentencepiece
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    vocabulary: int
    tokenizer: str


SHAPES = {
    "2x650": Shape(2, 650, 10_000, "words"),
    "3x2048": Shape(3, 2048, 500, "sentencepiece"),
    "1x512-200k": Shape(1, 512, 200_000, "words"),
}

BOS, EOS, UNK = 0, 1, 2


def make(name: str, lists: Path, folder: Path, root: Path) -> Path:
    """The model's file, with its vocabulary beside it: a shape's, or that of a folder."""
    if name == "shipped":
        return root / "models" / "en" / "lstm" / "model.onnx"
    if name not in SHAPES:
        return Path(name) / "model.onnx"
    shape, folder = SHAPES[name], folder / name
    path = folder / "model.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    texts = [hyp["text"] for line in lists.open(encoding="utf-8") for hyp in json.loads(line)["hyps"]]
    if shape.tokenizer == "words":
        counts = Counter(word for text in texts for word in text.split())
        words = [word for word, _ in counts.most_common(shape.vocabulary - 3)]
        words += [f"filler{index}" for index in range(shape.vocabulary - 3 - len(words))]
        symbols = ["<s>", "</s>", "<unk>", *words]
        (folder / "tokens.txt").write_text("".join(f"{word} {index}\n" for index, word in enumerate(symbols)))
    else:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts[::50]), model_prefix=str(folder / "bpe"), vocab_size=shape.vocabulary,
            bos_id=BOS, eos_id=EOS, unk_id=UNK, minloglevel=2,
        )
    onnx.save(graph(shape), path)
    return path


def graph(shape: Shape) -> onnx.ModelProto:
    """Embedding, LSTM layers, output layer tied to the embedding."""
    random = numpy.random.default_rng(1)

    def tensor(name, *dims, scale=0.05):
        values = (random.random(dims, dtype=numpy.float32) - 0.5) * (2 * scale)
        return numpy_helper.from_array(values, name)

    layers, hidden = shape.layers, shape.hidden
    initialisers = [tensor("embedding", shape.vocabulary, hidden), tensor("bias", shape.vocabulary)]
    initialisers.append(numpy_helper.from_array(numpy.array([1]), "direction"))
    node = helper.make_node
    nodes = [
        node("Transpose", ["tokens"], ["by_time"], perm=[1, 0]),
        node("Gather", ["embedding", "by_time"], ["flow"]),
        node("Split", ["state_0"], [f"h{layer}" for layer in range(layers)], axis=0),
        node("Split", ["state_1"], [f"c{layer}" for layer in range(layers)], axis=0),
    ]
    flow = "flow"
    for layer in range(layers):
        initialisers += [
            tensor(f"W{layer}", 1, 4 * hidden, hidden), tensor(f"R{layer}", 1, 4 * hidden, hidden),
            tensor(f"B{layer}", 1, 8 * hidden),
        ]
        inputs = [flow, f"W{layer}", f"R{layer}", f"B{layer}", "", f"h{layer}", f"c{layer}"]
        nodes.append(node("LSTM", inputs, [f"y{layer}", f"nh{layer}", f"nc{layer}"], hidden_size=hidden))
        flow = f"flow{layer}"
        nodes.append(node("Squeeze", [f"y{layer}", "direction"], [flow]))
    nodes += [
        node("Concat", [f"nh{layer}" for layer in range(layers)], ["next_state_0"], axis=0),
        node("Concat", [f"nc{layer}" for layer in range(layers)], ["next_state_1"], axis=0),
        node("Transpose", [flow], ["hidden"], perm=[1, 0, 2]),
        node("Transpose", ["embedding"], ["matrix"], perm=[1, 0]),
        node("MatMul", ["hidden", "matrix"], ["product"]),
        node("Add", ["product", "bias"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    real, state = TensorProto.FLOAT, [layers, "N", hidden]
    value = helper.make_tensor_value_info
    inputs = [value("tokens", TensorProto.INT64, ["N", "L"]), value("state_0", real, state), value("state_1", real, state)]
    outputs = [
        value("log_probs", real, ["N", "L", shape.vocabulary]),
        value("next_state_0", real, state), value("next_state_1", real, state),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "lm", inputs, outputs, initialisers),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )
    facts = {
        "version": 1, "cell": "lstm", "vocab_size": shape.vocabulary, "bos_id": BOS, "eos_id": EOS, "unk_id": UNK,
        "tokenizer": shape.tokenizer,
    }
    helper.set_model_props(model, {f"secondpass.{key}": str(value) for key, value in facts.items()})
    return model


class Tokenizer:
    """Text -> ids as secondpass makes them, `<s>` and `</s>` not included."""

    def __init__(self, model: Path):
        self.words = None
        if (model.parent / "tokens.txt").exists():
            lines = (model.parent / "tokens.txt").read_text(encoding="utf-8").splitlines()
            self.words = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in lines}
            facts = {pair.key: pair.value for pair in onnx.load(model, load_external_data=False).metadata_props}
            self.bos, self.eos, self.unk = (int(facts[f"secondpass.{name}_id"]) for name in ("bos", "eos", "unk"))
        else:
            self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(model.parent / "bpe.model"))
            self.bos, self.eos = self.pieces.bos_id(), self.pieces.eos_id()

    def encode(self, text: str) -> list[int]:
        if self.words is not None:
            return [self.words.get(word, self.unk) for word in text.split()]
        return self.pieces.encode(text)


def trained(name: str) -> bool:
    """Whether errors of its fast modes mean anything."""
    return name not in SHAPES


def arithmetic(model: Path) -> tuple[int, list]:
    """Floating-point operations for one history, and the weights: embedding, output matrix, layers, bias."""
    graph = onnx.load(model).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [[stored[name][0] for name in node.input[1:4]] for node in graph.node if node.op_type == "LSTM"]
    embedding = next(stored[node.input[0]] for node in graph.node if node.op_type == "Gather" and node.input[0] in stored)
    product = next(node for node in reversed(graph.node) if node.op_type == "MatMul")
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    name = product.input[1]
    output = stored[turned[name]] if name in turned else stored[name].T
    added = next(node for node in graph.node if node.op_type == "Add" and product.output[0] in node.input)
    bias = next(stored[name] for name in added.input if name in stored)
    operations = sum(2 * (layer[0].size + layer[1].size) for layer in layers) + 2 * output.size
    return operations, [embedding, output, layers, bias]


def quantised(model: Path, folder: Path) -> Path:
    """The model as ONNX Runtime's dynamic quantisation makes it: int8 weights, by channel where it can."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "int8.onnx"
    if path.exists() and path.stat().st_mtime > model.stat().st_mtime:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    folded = onnx.load(model)
    graph = folded.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    # It quantises products with stored matrices only: an output layer that is the embedding turned is stored turned.
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in stored]:
        matrix = numpy.ascontiguousarray(numpy_helper.to_array(stored[node.input[0]]).T)
        graph.initializer.append(numpy_helper.from_array(matrix, node.output[0]))
        graph.node.remove(node)
    onnx.save(folded, folder / "folded.onnx")
    logging.disable(logging.WARNING)  # its advice is followed above
    quantize_dynamic(
        folder / "folded.onnx", path, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "LSTM"]
    )
    logging.disable(logging.NOTSET)
    (folder / "folded.onnx").unlink()
    return path
