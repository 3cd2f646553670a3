"""The training loop: a budget of minutes, passes or tokens, and a learning rate that is spent with it."""

import json
from pathlib import Path

import torch
from torch import nn

from . import checkpoint, evaluate, model, restore
from .batches import Position
from .model import Shape
from .prepare import Prepared, prepare
from .progress import Progress
from .sampling import Sampler
from .schedule import learning_rate
from .settings import Settings


def train(settings: Settings) -> Path:
    """Trains until the budget is used up or nothing improves, and gives the path of the best weights.

    Goes on from a checkpoint found in the output folder, and is then the run that was
    interrupted: same batches, same random numbers; what it had used of its budget counts.
    """
    if not (settings.minutes or settings.epochs or settings.tokens):
        raise SystemExit("how long? give --minutes, --epochs or --tokens")
    torch.set_num_threads(settings.threads)
    prepared = prepare(settings)
    (settings.out / "settings.json").write_text(json.dumps(vars(settings), indent=1, default=str) + "\n")
    return _Run(settings, prepared).go()


class _Run:
    def __init__(self, settings: Settings, prepared: Prepared):
        self.settings = settings
        self.prepared = prepared
        self.device = _device(settings.device)
        torch.manual_seed(settings.seed)
        self.last, self.best = (settings.out / name for name in (checkpoint.LAST, checkpoint.BEST))
        stored = checkpoint.read(self.last) if self.last.exists() else None
        self.model = self._model(stored).to(self.device).train()
        self.model.precision = _precision(settings.precision, self.device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
        )
        self.progress = Progress(settings, len(prepared.corpus.tokens))
        self.state = None
        if stored:
            self._take_up(stored)
        self.sampler = Sampler(settings, prepared, self.device) if settings.samples else None

    def go(self) -> Path:
        settings, prepared, progress = self.settings, self.prepared, self.progress
        if settings.start and not progress.evaluations:
            # What fine-tuning starts from is the first candidate: the result is never worse.
            self._evaluate()
        batches = prepared.corpus.batches(
            settings.lanes, settings.window, prepared.bos, prepared.eos, settings.seed, Position(*progress.position)
        )
        progress.begin()
        while not progress.over():
            batch = next(batches)
            if batch.fresh or self.state is None:
                self.state = self.model.start(settings.lanes)
            rate = learning_rate(
                settings.schedule, settings.learning_rate, settings.warm_up, progress.used(), progress.falls
            )
            loss = self._update(batch, rate)
            progress.step(batch, loss, rate)
            if progress.due():
                self._evaluate()
        self._evaluate()
        print(f"done: {self.best}, perplexity {progress.best:.2f} per word of the held-out text", flush=True)
        return self.best

    def _update(self, batch, rate) -> torch.Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        tokens, targets, keep = (
            part.to(self.device, non_blocking=True) for part in (batch.tokens, batch.targets, batch.keep)
        )
        sampler = self.sampler.draw() if self.sampler and self.progress.samples() else None
        loss, self.state = self.model.loss(tokens, targets, self.state, keep, sampler)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        # One bad batch must not ruin hours of work.
        if torch.isfinite(norm):
            self.optimiser.step()
        return loss.detach()

    def _evaluate(self) -> None:
        result = evaluate.perplexity(self.model, self.prepared.held)
        print(f"dev: {result}", flush=True)
        if self.progress.evaluated(result.per_word):
            checkpoint.save(self.best, checkpoint.weights(self.model))
        checkpoint.save(self.last, self._everything())

    def _everything(self) -> dict:
        content = {
            **checkpoint.weights(self.model),
            "optimiser": self.optimiser.state_dict(),
            "progress": self.progress.as_dict(),
            "state": self.state,
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            content["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return content

    def _model(self, stored: dict | None):
        settings = self.settings
        if settings.start:
            made = restore.load(settings.start, settings.dropout)
        else:
            shape = Shape(
                vocabulary=self.prepared.vocabulary,
                hidden=settings.hidden,
                layers=settings.layers,
                cell=settings.cell,
                embedding=settings.embedding,
                tied=settings.tied,
                order=settings.order if settings.cell == model.FEED_FORWARD else 0,
            )
            made = model.make(shape, settings.dropout)
        if stored:
            shape = Shape(**stored["shape"])
            if shape != made.shape:
                raise SystemExit(f"{self.last} is another model ({shape}): give its settings, or another --out")
            made.load_state_dict(stored["model"])
        return made

    def _take_up(self, stored: dict) -> None:
        self.optimiser.load_state_dict(stored["optimiser"])
        self.progress.take_up(stored["progress"])
        if stored.get("state") is not None:
            self.state = [part.to(self.device) for part in stored["state"]]
        if "random" in stored:
            torch.set_rng_state(stored["random"])
        if "random_cuda" in stored and self.device.type == "cuda":
            torch.cuda.set_rng_state(stored["random_cuda"], self.device)
        print(f"goes on from update {self.progress.updates}", flush=True)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _precision(name: str, device: torch.device) -> torch.dtype | None:
    if name == "bfloat16" or (name == "auto" and (device.type == "cuda" or _multiplies_bfloat16())):
        return torch.bfloat16
    return None


def _multiplies_bfloat16() -> bool:
    """Whether the processor has an instruction for it; without one bfloat16 is slower than float32."""
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
