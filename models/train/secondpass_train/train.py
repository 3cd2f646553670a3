"""The training loop: a budget of wall-clock minutes, and a learning rate that is spent with it."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from . import checkpoint, evaluate, text, tokenizer
from .batches import Corpus
from .model import LanguageModel, Shape


@dataclass(frozen=True)
class Settings:
    text: list[Path]
    dev: Path
    out: Path
    minutes: float
    vocabulary: int = 4000
    hidden: int = 512
    layers: int = 1
    dropout: float = 0.0
    learning_rate: float = 3e-3
    clip: float = 1.0
    lanes: int = 64
    window: int = 32
    tokenizer_sample: int = 200_000
    dev_sentences: int = 1000
    threads: int = 2
    seed: int = 1


# Fractions of the budget: the rise of the learning rate, and how often the dev set is looked at.
_WARM_UP = 0.02
_EVALUATIONS = 12
_SECONDS_BETWEEN_LINES = 30.0


def train(settings: Settings) -> Path:
    """Trains until the budget is used up and gives the path of the last checkpoint.

    Goes on from a checkpoint found in the output folder; its minutes count.
    """
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    processor, corpus = _prepare(settings)
    held = evaluate.encode(processor, _spread(list(text.sentences([settings.dev])), settings.dev_sentences))
    return _Run(settings, corpus, held, processor.vocab_size()).go()


def learning_rate(peak: float, used: float) -> float:
    """Linear rise, then half a cosine that reaches zero as the budget ends; `used` is from 0 to 1."""
    used = min(max(used, 0.0), 1.0)
    if used < _WARM_UP:
        return peak * max(used / _WARM_UP, 0.01)
    return peak * 0.5 * (1.0 + math.cos(math.pi * (used - _WARM_UP) / (1.0 - _WARM_UP)))


class _Run:
    def __init__(self, settings: Settings, corpus: Corpus, held: evaluate.Held, vocabulary: int):
        self.settings = settings
        self.corpus = corpus
        self.held = held
        self.path = settings.out / "checkpoint.pt"
        self.progress = {"seconds": 0.0, "updates": 0, "tokens": 0, "evaluations": 0}
        stored = checkpoint.read(self.path) if self.path.exists() else None
        torch.manual_seed(settings.seed)
        if stored:
            self.progress = stored["progress"]
            self.model = checkpoint.model_of(stored, settings.dropout)
        else:
            self.model = LanguageModel(Shape(vocabulary, settings.hidden, settings.layers), settings.dropout)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        if stored:
            self.optimiser.load_state_dict(stored["optimiser"])
            print(f"goes on from update {self.progress['updates']}", flush=True)

    def go(self) -> Path:
        budget = self.settings.minutes * 60.0
        batches = self.corpus.batches(
            self.settings.lanes,
            self.settings.window,
            tokenizer.BOS_ID,
            tokenizer.EOS_ID,
            # A resumed run must not see the same first sentences again.
            self.settings.seed + self.progress["updates"],
        )
        began = time.monotonic() - self.progress["seconds"]
        line = _Line(self.progress["tokens"], began)
        state = None
        while True:
            used = (time.monotonic() - began) / budget
            if used >= 1.0:
                break
            rate = learning_rate(self.settings.learning_rate, used)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            batch = next(batches)
            if batch.fresh or state is None:
                state = self.model.start(self.settings.lanes)
            loss, state = self._update(batch, state)
            self.progress["updates"] += 1
            self.progress["tokens"] += batch.targets.numel()
            self.progress["seconds"] = time.monotonic() - began
            line.add(loss, self.progress, budget, rate)
            if used * _EVALUATIONS >= self.progress["evaluations"] + 1:
                self._evaluate()
        self._evaluate()
        print(f"done: {self.path}", flush=True)
        return self.path

    def _update(self, batch, state):
        self.optimiser.zero_grad(set_to_none=True)
        loss, state = self.model.loss(batch.tokens, batch.targets, state, batch.keep)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        # One bad batch must not ruin hours of work.
        if torch.isfinite(norm):
            self.optimiser.step()
        return loss.item(), state

    def _evaluate(self) -> None:
        self.progress["evaluations"] += 1
        result = evaluate.perplexity(self.model, self.held)
        checkpoint.save(self.path, self.model, self.optimiser, self.progress)
        print(f"dev: {result}", flush=True)


class _Line:
    """A progress line now and then."""

    def __init__(self, tokens: int, began: float):
        self.tokens_at_start = tokens
        self.seconds_at_start = time.monotonic() - began
        self.last = self.seconds_at_start
        self.losses: list[float] = []

    def add(self, loss: float, progress: dict, budget: float, rate: float) -> None:
        self.losses.append(loss)
        seconds = progress["seconds"]
        # The first line comes early: it tells at once whether all is well.
        pause = _SECONDS_BETWEEN_LINES if progress["updates"] > 10 else 0.0
        if seconds - self.last < pause or progress["updates"] < 10:
            return
        speed = (progress["tokens"] - self.tokens_at_start) / max(seconds - self.seconds_at_start, 1e-9)
        mean = sum(self.losses) / len(self.losses)
        print(
            f"update {progress['updates']}  {progress['tokens'] / 1e6:.2f} M tokens  loss {mean:.3f}  "
            f"rate {rate:.2e}  {speed:.0f} tokens/s  {max(budget - seconds, 0) / 60:.1f} min left",
            flush=True,
        )
        self.last = seconds
        self.losses.clear()


def _prepare(settings: Settings):
    """Tokenizer and encoded text, made once and found again when a run goes on."""
    model_path = settings.out / "bpe.model"
    tokens_path, starts_path = settings.out / "tokens.u16", settings.out / "starts.npy"
    if not model_path.exists():
        print("training the tokenizer", flush=True)
        lines = text.sample(text.sentences(settings.text), settings.tokenizer_sample, settings.seed)
        tokenizer.train(lines, settings.vocabulary, model_path, settings.threads)
    processor = tokenizer.load(model_path)
    # The table of beginnings is written last: where it is, the tokens are whole.
    if not starts_path.exists():
        print("encoding the text", flush=True)
        tokenizer.encode_to_disk(
            processor, text.sentences(settings.text), tokens_path, starts_path, settings.threads, _report_encoding
        )
    (settings.out / "settings.json").write_text(json.dumps(vars(settings), indent=1, default=str) + "\n")
    corpus = Corpus(tokens_path, starts_path)
    print(f"{len(corpus)} sentences, {len(corpus.tokens)} tokens, {processor.vocab_size()} pieces", flush=True)
    return processor, corpus


def _report_encoding(sentences: int, tokens: int) -> None:
    if sentences % 500_000 == 0:
        print(f"  {sentences} sentences, {tokens} tokens", flush=True)


def _spread(lines: list[str], count: int) -> list[str]:
    """At most `count` lines, taken evenly from the whole."""
    if len(lines) <= count:
        return lines
    return [lines[index * len(lines) // count] for index in range(count)]
