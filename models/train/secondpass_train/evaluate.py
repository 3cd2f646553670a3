"""Perplexity of held-out text.

Per word: exp(-ln p(text) / (words + sentences)), where ln p holds every piece of every word and the
`</s>` of every sentence. It does not depend on how words are cut into pieces, so models with other
tokenizers, and n-gram models, can be compared by it, as long as they know the words.

A word that a model does not know costs it only `<unk>`, however long it is: a model that knows
fewer words looks better. So there is a second figure, in which what became `<unk>` is also spelled, each
character at the price of a choice among all of Unicode. That is a probability of the text itself, and
the same price for every model.
"""

import math
from dataclasses import dataclass, field

import numpy
import torch

from .batches import padded, rows_at_once

# Characters in Unicode 16, and the end of a spelling.
_LN_CHARACTER = math.log(154_998 + 1)


@dataclass(frozen=True)
class Held:
    """Encoded held-out sentences, and what they were made of."""

    sentences: list[numpy.ndarray]
    words: int
    characters: int = 0
    unknown: list[str] = field(default_factory=list)  # spellings of what became <unk>
    bos: int = 1


@dataclass(frozen=True)
class Perplexity:
    log_probability: float
    words: int
    tokens: int
    sentences: int
    characters: int
    unknown: int
    unknown_characters: int

    @property
    def per_word(self) -> float:
        return math.exp(-self.log_probability / (self.words + self.sentences))

    @property
    def per_token(self) -> float:
        return math.exp(-self.log_probability / self.tokens)

    @property
    def spelled(self) -> float:
        """Per word, with what is unknown spelled out: comparable whatever a model knows."""
        price = _LN_CHARACTER * (self.unknown_characters + self.unknown)
        return math.exp((price - self.log_probability) / (self.words + self.sentences))

    @property
    def bits_per_character(self) -> float:
        """Over the characters of the words, the spaces between them and the line ends."""
        return -self.log_probability / math.log(2) / max(1, self.characters + self.sentences)

    def __str__(self) -> str:
        return (
            f"{self.per_word:.2f} per word ({self.words} words + {self.sentences} </s>), "
            f"{self.per_token:.2f} per token ({self.tokens} tokens, {self.unknown} of them <unk>), "
            f"{self.spelled:.2f} per word with <unk> spelled out, "
            f"{self.bits_per_character:.3f} bits per character, ln p {self.log_probability:.1f}"
        )


def encode(tokenizer, lines: list[str]) -> Held:
    encoded = [tokenizer.spell(line) for line in lines]
    return Held(
        sentences=[numpy.array(line.ids, dtype=numpy.int64) for line in encoded],
        words=sum(len(line.split()) for line in lines),
        characters=sum(map(len, lines)),
        unknown=[spelling for line in encoded for spelling in line.unknown],
        bos=tokenizer.bos,
    )


def spread(lines: list, count: int) -> list:
    """At most `count` of them, taken evenly from the whole."""
    if len(lines) <= count:
        return lines
    return [lines[index * len(lines) // count] for index in range(count)]


def perplexity(model, held: Held) -> Perplexity:
    """Under a PyTorch model, in float32 as it is exported; it need not be on the processor."""
    was_training, precision = model.training, model.precision
    model.eval()
    model.precision = None
    with torch.no_grad():
        result = _summed(held, model.shape.vocabulary, lambda *batch: _log_probability(model, *batch))
    model.train(was_training)
    model.precision = precision
    return result


def onnx_perplexity(session, held: Held) -> Perplexity:
    """Under an exported model, run by ONNX Runtime: the file as it is shipped."""
    states = {value.name: value.shape for value in session.get_inputs() if value.name != "tokens"}
    vocabulary = session.get_outputs()[0].shape[-1]

    def log_probability(tokens, targets, real):
        feeds = {"tokens": tokens.t().numpy()}
        for name, (first, _, last) in states.items():
            feeds[name] = numpy.zeros((first, tokens.shape[1], last), dtype=numpy.float32)
        (logs,) = session.run(["log_probs"], feeds)
        chosen = numpy.take_along_axis(logs, targets.t().numpy()[:, :, None], axis=2)[:, :, 0]
        return float(chosen[real.t().numpy()].sum(dtype=numpy.float64))

    return _summed(held, vocabulary, log_probability)


def _summed(held: Held, vocabulary: int, log_probability) -> Perplexity:
    """Sentences of about equal length are scored together."""
    order = sorted(range(len(held.sentences)), key=lambda index: len(held.sentences[index]), reverse=True)
    total, start = 0.0, 0
    while start < len(order):
        rows = rows_at_once(len(held.sentences[order[start]]), vocabulary)
        total += log_probability(*padded([held.sentences[i] for i in order[start : start + rows]], held.bos))
        start += rows
    return Perplexity(
        log_probability=total,
        words=held.words,
        tokens=sum(map(len, held.sentences)),
        sentences=len(held.sentences),
        characters=held.characters,
        unknown=len(held.unknown),
        unknown_characters=sum(map(len, held.unknown)),
    )


def _log_probability(model, tokens, targets, real) -> float:
    device = model.embedding.device
    tokens, targets, real = tokens.to(device), targets.to(device), real.to(device)
    keep = torch.ones(*tokens.shape, 1, device=device)
    hiddens, _ = model.hiddens(tokens, model.start(tokens.shape[1]), keep)
    logits = hiddens[real] @ model.projection.t() + model.output_bias
    return torch.log_softmax(logits, dim=1).gather(1, targets[real].unsqueeze(1)).double().sum().item()
