"""Makes the small models that imitate other toolkits' exports: `python make_foreign.py ../../fixtures/models/foreign`.

Random weights, always the same bytes, with names, shapes and quirks as the toolkits write them. What a
model says is written beside it in `expected.json`, computed in float64 by plain numpy from the weights, which
shares nothing with ONNX Runtime.
"""

import sys
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from foreign import attention, espnet, icefall, keras, pytorch


def main(folder: Path) -> None:
    icefall.make(folder, quantise)
    espnet.make(folder)
    pytorch.make(folder, quantise)
    keras.make(folder)
    attention.make(folder)


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Dynamic int8, as icefall's exporter calls it."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        onnx.save_model(model, path)
        quantize_dynamic(path, path.with_name("int8.onnx"), weight_type=QuantType.QInt8)
        return onnx.load(path.with_name("int8.onnx"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
