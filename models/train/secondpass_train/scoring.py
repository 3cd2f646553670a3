"""Perplexity of a text under an exported model (the file as it is shipped) or a checkpoint."""

from pathlib import Path

import onnxruntime

from . import evaluate, restore, text, tokenizer
from .evaluate import Perplexity


def perplexity(path: Path, text_path: Path, tokenizer_folder: Path | None = None) -> Perplexity:
    """`path` is a folder or a file in it: model.onnx if there is one, else a checkpoint."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (path / "model.onnx").is_file():
        path = path / "model.onnx"
    held = evaluate.encode(tokenizer.load(tokenizer_folder or folder), list(text.sentences([text_path])))
    if path.suffix == ".onnx":
        return evaluate.onnx_perplexity(session(str(path)), held)
    return evaluate.perplexity(restore.load(path), held)


def session(model: str | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The highest level has crashed on 16-bit constants.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
