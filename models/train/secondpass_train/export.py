"""Checkpoint -> model.onnx and its tokenizer, checked against the PyTorch module before they are written."""

from pathlib import Path

import numpy
import torch

from . import evaluate, onnx_graph, prepare, restore, text, tokenizer
from . import weights as arrays
from .model import FEED_FORWARD, LanguageModel
from .scoring import session

TOLERANCE = 1e-5


def export(
    checkpoint_path: Path,
    tokenizer_folder: Path | None,
    out: Path,
    storage: str = "fp32",
    dev: Path | None = None,
) -> Path:
    """Writes model.onnx and its tokenizer to `out`, and gives the path of the former.

    With `fp16` or `int8` the check is against the PyTorch module with the weights as they are
    stored, and what that does to the perplexity of held-out text is printed: of `dev`, else of what the run
    itself looked at.
    """
    trained = restore.load(checkpoint_path).eval()
    run = checkpoint_path if checkpoint_path.is_dir() else checkpoint_path.parent
    words = tokenizer.load(tokenizer_folder or run)
    if words.size != trained.shape.vocabulary:
        raise SystemExit(f"{words.path} has {words.size} tokens, the checkpoint {trained.shape.vocabulary}")
    stored = arrays.to_model(arrays.rounded(arrays.of_model(trained), storage)).eval()
    serialised = serialise(trained, words, storage)
    difference = largest_difference(stored, serialised)
    # Not `>`: a difference that is no number is one too.
    if not difference <= TOLERANCE:
        raise SystemExit(f"ONNX Runtime and PyTorch differ by {difference:.2e}: nothing was written")
    out.mkdir(parents=True, exist_ok=True)
    target = out / "model.onnx"
    target.write_bytes(serialised)
    tokenizer.copy(words, out)
    print(f"{target}: {len(serialised)} bytes, differs from PyTorch by at most {difference:.1e}")
    if storage != "fp32":
        _print_change(trained, stored, _held(run, words, dev), storage)
    return target


def serialise(trained: LanguageModel, words, storage: str) -> bytes:
    """The file's bytes: always the same for the same weights."""
    facts = onnx_graph.metadata(words.size, words.bos, words.eos, words.unk, words.kind, trained.shape.cell)
    if trained.shape.cell == FEED_FORWARD:
        facts["context"] = str(trained.shape.order - 1)
    return onnx_graph.build(arrays.of_model(trained), facts, storage).SerializeToString(deterministic=True)


@torch.no_grad()
def largest_difference(trained: LanguageModel, serialised: bytes) -> float:
    """Over all outputs, on random tokens and states, for a batch and for a single step.

    Relative for numbers beyond 1: single precision has no more to give.
    """
    running = session(serialised)
    generator = torch.Generator().manual_seed(1)
    names = [value.name for value in running.get_outputs()]
    largest = 0.0
    for rows, length in ((3, 17), (1, 1)):
        tokens = torch.randint(trained.shape.vocabulary, (rows, length), generator=generator)
        state = [torch.randn(part.shape, generator=generator) * 0.5 for part in trained.start(rows)]
        feeds = {"tokens": tokens.numpy(), **{f"state_{k}": part.numpy() for k, part in enumerate(state)}}
        for one, other in zip(trained(tokens, *state), running.run(names, feeds), strict=True):
            apart = numpy.abs(one.numpy() - other) / numpy.maximum(1.0, numpy.abs(other))
            largest = max(largest, float(apart.max()))
    return largest


def _held(run: Path, words, dev: Path | None):
    if dev:
        return evaluate.encode(words, list(text.sentences([dev])))
    if (run / prepare.HELD).is_file():
        return prepare.held_of(run)
    return None


def _print_change(trained, stored, held, storage: str) -> None:
    if held is None:
        print(f"what {storage} does to the perplexity is not known: name held-out text with --dev")
        return
    before, after = (evaluate.perplexity(model, held).per_word for model in (trained, stored))
    print(f"perplexity per word {before:.3f}, stored as {storage} {after:.3f} ({100 * (after / before - 1):+.3f} %)")
