"""Batches of packed sentences.

Sentences are independent, as they are when hypotheses are scored: zeros, `<s>`, the words,
`</s>`. Each lane of a batch holds whole sentences one after another, cut into windows of equal
length; the state is carried from window to window and cleared at every `<s>`. Nothing is padded.
"""

from dataclasses import dataclass
from typing import Iterator

import numpy
import torch

# Sentences are packed by this many at once: enough that what is dropped at the ends of lanes is nothing.
_SENTENCES_AT_ONCE = 65_536


@dataclass(frozen=True)
class Batch:
    tokens: torch.Tensor  # [T, N] what the model reads
    targets: torch.Tensor  # [T, N] what it should say
    keep: torch.Tensor  # [T, N, 1] 0 where a sentence begins
    fresh: bool  # the first window of a group: no state to carry


class Corpus:
    """Encoded sentences on disk, read where they lie."""

    def __init__(self, tokens_path, starts_path):
        self.tokens = numpy.memmap(tokens_path, dtype=numpy.uint16, mode="r")
        self.starts = numpy.load(starts_path)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batches(self, lanes: int, window: int, bos: int, eos: int, seed: int) -> Iterator[Batch]:
        """Endless batches; each pass over the corpus has its own order."""
        epoch = 0
        while True:
            order = numpy.random.default_rng([seed, epoch]).permutation(len(self))
            for start in range(0, len(order), _SENTENCES_AT_ONCE):
                chosen = order[start : start + _SENTENCES_AT_ONCE]
                yield from self._windows(chosen, lanes, window, bos, eos)
            epoch += 1

    def _windows(self, chosen, lanes, window, bos, eos) -> Iterator[Batch]:
        targets = _lanes([self.tokens[self.starts[i] : self.starts[i + 1]] for i in chosen], lanes)
        targets = torch.from_numpy(targets.astype(numpy.int64)).t().contiguous()
        tokens = torch.full_like(targets, eos)
        tokens[1:] = targets[:-1]
        tokens[tokens == eos] = bos
        keep = (tokens != bos).to(torch.float32).unsqueeze(2)
        for start in range(0, len(tokens) - window + 1, window):
            part = slice(start, start + window)
            yield Batch(tokens[part], targets[part], keep[part], fresh=start == 0)


def _lanes(sentences: list[numpy.ndarray], lanes: int) -> numpy.ndarray:
    """Lays sentences end to end in lanes of nearly equal length and cuts them to the shortest."""
    ends = numpy.cumsum([len(sentence) for sentence in sentences])
    share = ends[-1] / lanes
    edges = numpy.searchsorted(ends, share * numpy.arange(1, lanes), side="left")
    flat = numpy.concatenate(sentences)
    begins = numpy.concatenate([[0], ends[edges]])
    stops = numpy.concatenate([ends[edges], ends[-1:]])
    length = int((stops - begins).min())
    if length == 0:
        raise SystemExit("too little text for this many lanes: give more text or fewer --lanes")
    return numpy.stack([flat[begin : begin + length] for begin in begins])


def padded(sentences: list[numpy.ndarray], bos: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, targets [T, N] and which targets are real, for a few whole sentences (no carried state)."""
    longest = max(map(len, sentences))
    targets = numpy.full((longest, len(sentences)), bos, dtype=numpy.int64)
    real = numpy.zeros((longest, len(sentences)), dtype=bool)
    for column, sentence in enumerate(sentences):
        targets[: len(sentence), column] = sentence
        real[: len(sentence), column] = True
    tokens = numpy.full_like(targets, bos)
    tokens[1:] = targets[:-1]
    return torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(real)
