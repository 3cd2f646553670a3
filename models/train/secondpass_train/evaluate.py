"""Perplexity of held-out text.

Per word: exp(-ln p(text) / (words + sentences)), where ln p holds every piece of every word and the
`</s>` of every sentence. It does not depend on how words are cut into pieces, so models with other
tokenizers, and n-gram models, can be compared by it.
"""

import math
from dataclasses import dataclass

import numpy
import torch

from .batches import padded
from .tokenizer import BOS_ID, UNK_ID


@dataclass(frozen=True)
class Held:
    """Encoded held-out sentences, and the number of words they were made of."""

    sentences: list[numpy.ndarray]
    words: int


@dataclass(frozen=True)
class Perplexity:
    log_probability: float
    words: int
    tokens: int
    sentences: int
    unknown: int

    @property
    def per_word(self) -> float:
        return math.exp(-self.log_probability / (self.words + self.sentences))

    @property
    def per_token(self) -> float:
        return math.exp(-self.log_probability / self.tokens)

    def __str__(self) -> str:
        return (
            f"{self.per_word:.2f} per word ({self.words} words + {self.sentences} </s>), "
            f"{self.per_token:.2f} per token ({self.tokens} tokens, {self.unknown} of them <unk>), "
            f"ln p {self.log_probability:.1f}"
        )


def encode(processor, lines: list[str]) -> Held:
    encoded = processor.encode(lines, add_eos=True)
    return Held([numpy.array(ids, dtype=numpy.int64) for ids in encoded], sum(len(line.split()) for line in lines))


@torch.no_grad()
def perplexity(model, held: Held, rows: int = 64) -> Perplexity:
    was_training = model.training
    model.eval()
    total = 0.0
    order = sorted(range(len(held.sentences)), key=lambda index: len(held.sentences[index]))
    for start in range(0, len(order), rows):
        tokens, targets, real = padded([held.sentences[i] for i in order[start : start + rows]], BOS_ID)
        keep = torch.ones(tokens.shape[0], tokens.shape[1], 1)
        hiddens, _ = model.hiddens(tokens, model.start(tokens.shape[1]), keep)
        logits = hiddens[real] @ model.embedding.t() + model.output_bias
        total += torch.log_softmax(logits, dim=1).gather(1, targets[real].unsqueeze(1)).double().sum().item()
    model.train(was_training)
    return Perplexity(
        log_probability=total,
        words=held.words,
        tokens=sum(map(len, held.sentences)),
        sentences=len(held.sentences),
        unknown=sum(int((sentence == UNK_ID).sum()) for sentence in held.sentences),
    )
