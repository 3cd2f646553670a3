"""Perplexity of a text under an exported model: the file as it is shipped, not the checkpoint."""

from pathlib import Path

import numpy
import onnxruntime

from . import text, tokenizer
from .batches import padded
from .evaluate import Perplexity, encode


def perplexity(folder: Path, text_path: Path, rows: int = 64) -> Perplexity:
    processor = tokenizer.load(folder / "bpe.model")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    layers, _, hidden = session.get_inputs()[1].shape
    held = encode(processor, list(text.sentences([text_path])))
    order = sorted(range(len(held.sentences)), key=lambda index: len(held.sentences[index]))
    total = 0.0
    for start in range(0, len(order), rows):
        tokens, targets, real = padded([held.sentences[i] for i in order[start : start + rows]], processor.bos_id())
        state = numpy.zeros((layers, tokens.shape[1], hidden), dtype=numpy.float32)
        (logs,) = session.run(["log_probs"], {"tokens": tokens.t().numpy(), "state_0": state, "state_1": state})
        chosen = numpy.take_along_axis(logs, targets.t().numpy()[:, :, None], axis=2)[:, :, 0]
        total += float(chosen[real.t().numpy()].sum(dtype=numpy.float64))
    return Perplexity(
        log_probability=total,
        words=held.words,
        tokens=sum(map(len, held.sentences)),
        sentences=len(held.sentences),
        unknown=sum(int((sentence == processor.unk_id()).sum()) for sentence in held.sentences),
    )
