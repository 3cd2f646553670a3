"""Exports small Keras models with tf2onnx: `python export_keras.py FOLDER`.

LSTM, GRU (both reset conventions), SimpleRNN and an LSTM with another activation, for all positions, for the
last one, and for windows filled up with zeros in front. Each folder has the model, its vocabulary, and the
scores that the Keras model gives.
"""

import json
import sys
from pathlib import Path

import numpy
import tensorflow
import tf2onnx

from foreign.writer import random_sentences, vocabulary

SIZE = 24
BOS, EOS = 1, 2
SYMBOLS = vocabulary(SIZE, {0: "<pad>", BOS: "<s>", EOS: "</s>", 3: "<unk>"})
LINES = random_sentences(8, range(4, SIZE), EOS)
CELLS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru-reset-before": ("GRU", {"reset_after": False}),
    "rnn": ("SimpleRNN", {}),
    "lstm-hard-sigmoid": ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
}
# Name, whether all positions come out, length of the window.
SHAPES = (("all", True, None), ("last", False, None), ("window", False, 10))


def main(folder: Path) -> None:
    source = numpy.random.default_rng(5)
    for cell, (layer, options) in CELLS.items():
        for shape, every, length in SHAPES:
            target = folder / f"keras-{cell}-{shape}"
            target.mkdir(parents=True, exist_ok=True)
            tokens = tensorflow.keras.Input((length,))
            flow = tensorflow.keras.layers.Embedding(SIZE, 6)(tokens)
            flow = getattr(tensorflow.keras.layers, layer)(8, return_sequences=every, **options)(flow)
            flow = tensorflow.keras.layers.Dense(SIZE, activation="softmax")(flow)
            model = tensorflow.keras.Model(tokens, flow)
            model.set_weights([source.normal(0, 0.7, weights.shape) for weights in model.get_weights()])
            export(model, length, target / "model.onnx")
            cases = [(ids, scores(model, ids, every, length)) for ids in LINES]
            sentences = [{"ids": ids, "log_probs": logs, "total": sum(logs)} for ids, logs in cases]
            # The Keras model itself is float32.
            facts = {"bos_id": BOS, "eos_id": EOS, "vocab_size": SIZE, "tolerance": 2e-5, "sentences": sentences}
            (target / "expected.json").write_text(json.dumps(facts))
            lines = (f"{symbol} {index}\n" for index, symbol in enumerate(SYMBOLS))
            (target / "tokens.txt").write_text("".join(lines))


def export(model, length: int | None, path: Path) -> None:
    signature = [tensorflow.TensorSpec((None, length), tensorflow.float32, name="input_1")]
    function = tensorflow.function(lambda tokens: model(tokens), input_signature=signature)
    try:
        tf2onnx.convert.from_function(function, input_signature=signature, opset=15, output_path=str(path))
    except Exception as error:  # noqa: BLE001: whatever an exporter raises, the others go on
        print(f"{path.parent.name}: not exported: {str(error).splitlines()[0]}")
        path.unlink(missing_ok=True)


def scores(model, ids: list[int], every: bool, length: int | None) -> list[float]:
    read = [BOS, *ids[:-1]]
    if every:
        probabilities = model(numpy.array([read], "float32")).numpy()[0]
    else:
        rows = []
        for end in range(1, len(read) + 1):
            history = read[:end][-(length or end) :]
            padded = [0] * ((length or end) - len(history)) + history
            rows.append(model(numpy.array([padded], "float32")).numpy()[0])
        probabilities = numpy.array(rows)
    return [float(numpy.log(float(probabilities[place, token]))) for place, token in enumerate(ids)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
