"""Checkpoint -> model.onnx and bpe.model, checked against the PyTorch module before they are written."""

import shutil
from pathlib import Path

import numpy
import onnxruntime
import torch

from . import checkpoint, onnx_graph, tokenizer
from .model import LanguageModel

TOLERANCE = 1e-5


def export(checkpoint_path: Path, tokenizer_path: Path, out: Path) -> Path:
    model = checkpoint.load_model(checkpoint_path).eval()
    processor = tokenizer.load(tokenizer_path)
    if processor.vocab_size() != model.shape.vocabulary:
        raise SystemExit(
            f"{tokenizer_path} has {processor.vocab_size()} pieces, the checkpoint {model.shape.vocabulary}"
        )
    metadata = onnx_graph.metadata(
        model.shape.vocabulary, processor.bos_id(), processor.eos_id(), processor.unk_id(), "sentencepiece"
    )
    serialised = onnx_graph.build(weights_of(model), metadata).SerializeToString(deterministic=True)
    difference = largest_difference(model, serialised)
    if difference > TOLERANCE:
        raise SystemExit(f"ONNX Runtime and PyTorch differ by {difference:.2e}: nothing was written")
    out.mkdir(parents=True, exist_ok=True)
    target = out / "model.onnx"
    target.write_bytes(serialised)
    # Bytes only: a sidecar should not inherit the mode or the dates of a working file.
    shutil.copyfile(tokenizer_path, out / "bpe.model")
    print(f"{target}: {len(serialised)} bytes, differs from PyTorch by at most {difference:.1e}")
    return target


def weights_of(model: LanguageModel) -> onnx_graph.Weights:
    def values(parameter):
        return parameter.detach().numpy()

    layers = [
        onnx_graph.Layer(values(w), values(r), values(b))
        for w, r, b in zip(model.input_matrices, model.recurrent_matrices, model.biases)
    ]
    return onnx_graph.Weights(values(model.embedding), layers, values(model.output_bias))


@torch.no_grad()
def largest_difference(model: LanguageModel, serialised: bytes) -> float:
    """Over all outputs, on random tokens and states, for a batch and for a single step."""
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    largest = 0.0
    for rows, length in ((3, 17), (1, 1)):
        tokens = torch.randint(model.shape.vocabulary, (rows, length), generator=generator)
        size = (model.shape.layers, rows, model.shape.hidden)
        state = [torch.randn(size, generator=generator) * 0.5 for _ in range(2)]
        expected = model(tokens, *state)
        got = session.run(
            ["log_probs", "next_state_0", "next_state_1"],
            {"tokens": tokens.numpy(), "state_0": state[0].numpy(), "state_1": state[1].numpy()},
        )
        for one, other in zip(expected, got):
            largest = max(largest, float(numpy.abs(one.numpy() - other).max()))
    return largest
