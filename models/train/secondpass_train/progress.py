"""How far a run is: its budget, its evaluations, and the lines that tell."""

import math
import time
from dataclasses import astuple

from .settings import Settings

_SECONDS_BETWEEN_LINES = 30.0
# The first lines come early: they tell at once whether all is well.
_EARLY_UPDATES = 10


class Progress:
    # What a checkpoint keeps.
    KEPT = ("seconds", "updates", "tokens", "evaluations", "falls", "waited", "best", "position")

    def __init__(self, settings: Settings, tokens_of_a_pass: int):
        self.settings = settings
        self.seconds = 0.0
        self.updates = self.tokens = self.evaluations = 0
        self.falls = self.waited = 0  # evaluations without improvement: all, and in a row
        self.best = math.inf
        self.position = (0, 0, 0)
        self._seconds_before = 0.0
        self._tokens_before = 0
        self._said = 0.0
        self._losses: list = []
        self._budgets = {
            "tokens": [
                tokens
                for tokens in (settings.tokens, settings.epochs and settings.epochs * tokens_of_a_pass)
                if tokens
            ],
            "seconds": [settings.minutes * 60.0] if settings.minutes else [],
        }

    def begin(self) -> None:
        """The clock runs from here on; time in between two runs does not count."""
        self._seconds_before = self._said = self.seconds
        self._tokens_before = self.tokens
        self._began = time.monotonic()

    def used(self) -> float:
        """The share of the budget that is spent: of the one spent most."""
        return max(
            (getattr(self, kind) / budget for kind, budgets in self._budgets.items() for budget in budgets), default=0.0
        )

    def over(self) -> bool:
        return self.used() >= 1.0 or 0 < self.settings.patience <= self.waited

    def samples(self) -> bool:
        """Whether the softmax is still a sampled one."""
        return self.used() < 1.0 - self.settings.full_softmax

    def step(self, batch, loss, rate: float) -> None:
        self.updates += 1
        self.tokens += batch.targets.numel()
        self.seconds = self._seconds_before + time.monotonic() - self._began
        self.position = astuple(batch.after)
        # Tensors: asking each for its number would make a GPU wait for us.
        self._losses.append(loss)
        pause = _SECONDS_BETWEEN_LINES if self.updates > _EARLY_UPDATES else 0.0
        if self.seconds - self._said >= pause and self.updates >= _EARLY_UPDATES:
            self._say(rate)

    def due(self) -> bool:
        """Whether it is time for the next look at the held-out text."""
        return self.used() < 1.0 and self.used() * self.settings.evaluations >= self.evaluations + 1

    def evaluated(self, perplexity: float) -> bool:
        """Takes note of an evaluation; whether it was the best so far."""
        self.evaluations += 1
        if perplexity < self.best:
            self.best, self.waited = perplexity, 0
            return True
        self.falls += 1
        self.waited += 1
        return False

    def as_dict(self) -> dict:
        return {name: getattr(self, name) for name in self.KEPT}

    def take_up(self, kept: dict) -> None:
        for name in self.KEPT:
            if name in kept:
                setattr(self, name, kept[name])

    def _say(self, rate: float) -> None:
        took = max(self.seconds - self._seconds_before, 1e-9)
        speed = (self.tokens - self._tokens_before) / took
        used = self.used()
        left = f"{self.seconds * (1 - used) / used / 60:.1f} min left" if used else "?"
        mean = sum(float(loss) for loss in self._losses) / len(self._losses)
        print(
            f"update {self.updates}  {self.tokens / 1e6:.2f} M tokens  loss {mean:.3f}  rate {rate:.2e}  "
            f"{speed:.0f} tokens/s  {left}",
            flush=True,
        )
        self._said = self.seconds
        self._losses.clear()
