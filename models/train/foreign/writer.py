"""Puts an ONNX graph together node by node and writes it with its expected scores."""

import json
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
FLOAT16, DOUBLE, BFLOAT16, BOOL = TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.BOOL


class Writer:
    """Collects nodes and weights; `floats` is the element type that weights are stored in."""

    def __init__(self, floats: int = FLOAT):
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.floats = floats
        self.count = 0

    def input(self, name: str, dtype: int, dims: list) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def output(self, name: str, dtype: int, dims: list | None) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def constant(self, values, name: str = "") -> str:
        """An initialiser; floating point values are stored as `floats`."""
        values = numpy.asarray(values)
        name = name or self._fresh("const")
        if values.dtype.kind == "f":
            if self.floats == BFLOAT16:
                tensor = helper.make_tensor(name, BFLOAT16, values.shape, values.ravel().tolist())
            else:
                dtype = {FLOAT: "float32", FLOAT16: "float16", DOUBLE: "float64"}[self.floats]
                tensor = numpy_helper.from_array(values.astype(dtype, order="C"), name)
        else:
            tensor = numpy_helper.from_array(values.copy(order="C"), name)
        self.initialisers.append(tensor)
        return name

    def op(self, kind: str, *inputs: str, out: str | list[str] = "", domain: str = "", **attributes) -> str:
        """Adds a node; gives its (first) output, named `out` or freshly."""
        outputs = [out or self._fresh(kind)] if isinstance(out, str) else out
        self.count += 1
        name = f"/{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def model(self, opset: int, producer: str, metadata: dict | None = None, ir_version: int = 8) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "main_graph", self.inputs, self.outputs, self.initialisers)
        domains = sorted({node.domain for node in self.nodes if node.domain})
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name=producer)
        if metadata:
            helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        return model

    def _fresh(self, stem: str) -> str:
        self.count += 1
        return f"/{stem}_{self.count}_output_0"


def write(
    folder: Path,
    model: onnx.ModelProto,
    symbols: list[str],
    sentences: list[tuple[list[int], list[float]]],
    external: bool = False,
    sidecar: str = "",
    **facts,
) -> None:
    """`model.onnx`, `tokens.txt` and `expected.json`; with `external`, the weights in `model.onnx.data`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    if external:
        onnx.external_data_helper.convert_model_to_external_data(
            model, all_tensors_to_one_file=True, location="model.onnx.data", size_threshold=64
        )
    onnx.save_model(model, folder / "model.onnx")
    (folder / "tokens.txt").write_text("".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols)))
    if sidecar:
        (folder / "model.onnx.toml").write_text(sidecar)
    cases = [
        {"ids": ids, "log_probs": [round(value, 9) for value in logs], "total": round(sum(logs), 9)}
        for ids, logs in sentences
    ]
    lines = ",\n".join(json.dumps(case) for case in cases)
    facts = {"vocab_size": len(symbols), "tolerance": 1e-5, **facts}
    head = json.dumps(facts)[:-1]
    (folder / "expected.json").write_text(f'{head},"sentences":[\n{lines}\n]}}\n')


def vocabulary(size: int, specials: dict[int, str]) -> list[str]:
    """Words `wa`, `wb`, .. with these symbols among them; negative places count from the end."""
    places = {index % size: symbol for index, symbol in specials.items()}
    return [places.get(index, "w" + chr(97 + index % 26) + "x" * (index // 26)) for index in range(size)]


def random_sentences(seed: int, words: range, eos: int, lengths=(0, 1, 2, 3, 5, 9, 14)) -> list[list[int]]:
    """Sentences of these lengths, some with a common beginning, each ended by `eos`."""
    source = numpy.random.default_rng(seed)
    found: list[list[int]] = []
    for length in lengths:
        ids = [int(token) for token in source.integers(words.start, words.stop, length)]
        found.append([*ids, eos])
        if length > 3:
            found.append([*ids[: length // 2], *(int(t) for t in source.integers(words.start, words.stop, 2)), eos])
    return found
