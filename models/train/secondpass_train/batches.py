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
class Position:
    """How far a run has read: passes, blocks of sentences in the pass, windows in the block."""

    epoch: int = 0
    block: int = 0
    window: int = 0


@dataclass(frozen=True)
class Batch:
    tokens: torch.Tensor  # [T, N] what the model reads
    targets: torch.Tensor  # [T, N] what it should say
    keep: torch.Tensor  # [T, N, 1] 0 where a sentence begins
    fresh: bool  # the first window of a block: no state to carry
    after: Position  # where to go on


class Corpus:
    """Encoded sentences on disk, read where they lie."""

    def __init__(self, tokens_path, starts_path, dtype=numpy.uint16):
        self.tokens = numpy.memmap(tokens_path, dtype=dtype, mode="r")
        self.starts = numpy.load(starts_path)
        if len(self) and self.starts[-1] != len(self.tokens):
            raise SystemExit(f"{tokens_path} and {starts_path} do not belong together: delete both")

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batches(self, lanes: int, window: int, bos: int, eos: int, seed: int, at=Position()) -> Iterator[Batch]:
        """Endless batches from a position; each pass over the corpus has its own order, given by the seed."""
        epoch, block, skip = at.epoch, at.block, at.window
        while True:
            order = numpy.random.default_rng([seed, epoch]).permutation(len(self))
            blocks = range(0, len(order), _SENTENCES_AT_ONCE)
            for index in range(block, len(blocks)):
                chosen = order[blocks[index] : blocks[index] + _SENTENCES_AT_ONCE]
                yield from self._windows(chosen, lanes, window, bos, eos, Position(epoch, index, skip))
                skip = 0
            epoch, block = epoch + 1, 0

    def counts(self, vocabulary: int) -> numpy.ndarray:
        """How often each id occurs."""
        total = numpy.zeros(vocabulary, dtype=numpy.int64)
        for start in range(0, len(self.tokens), 1 << 24):
            total += numpy.bincount(self.tokens[start : start + (1 << 24)], minlength=vocabulary)
        return total

    def _windows(self, chosen, lanes, window, bos, eos, at: Position) -> Iterator[Batch]:
        targets = _lanes([self.tokens[self.starts[i] : self.starts[i + 1]] for i in chosen], lanes)
        targets = torch.from_numpy(targets.astype(numpy.int64)).t().contiguous()
        tokens = torch.full_like(targets, eos)
        tokens[1:] = targets[:-1]
        tokens[tokens == eos] = bos
        keep = (tokens != bos).to(torch.float32).unsqueeze(2)
        starts = range(0, len(tokens), window)
        for index in range(at.window, len(starts)):
            part = slice(starts[index], starts[index] + window)
            after = Position(at.epoch, at.block, index + 1)
            if index + 1 == len(starts):
                after = Position(at.epoch, at.block + 1)
            yield Batch(tokens[part], targets[part], keep[part], index == 0, after)


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


def rows_at_once(longest: int, vocabulary: int) -> int:
    """How many sentences may be scored together so that their logits take no more than 256 MB."""
    return max(1, min(64, (1 << 26) // (longest * vocabulary)))
