"""Learning rates over a run, as a share of the peak; `used` is the share of the budget that is spent."""

import math


def cosine(used: float, falls: int) -> float:
    """Half a cosine that reaches zero as the budget ends: the run always ends trained out."""
    return 0.5 * (1.0 + math.cos(math.pi * used))


def plateau(used: float, falls: int) -> float:
    """Halved each time the held-out perplexity has not improved."""
    return 0.5**falls


def constant(used: float, falls: int) -> float:
    return 1.0


SCHEDULES = {"cosine": cosine, "plateau": plateau, "constant": constant}


def learning_rate(name: str, peak: float, warm_up: float, used: float, falls: int) -> float:
    """A linear rise over `warm_up`, then the schedule over what is left; `falls` counts evaluations without improvement."""
    used = min(max(used, 0.0), 1.0)
    if used < warm_up:
        return peak * max(used / warm_up, 0.01)
    left = (used - warm_up) / (1.0 - warm_up) if warm_up < 1.0 else 1.0
    return peak * SCHEDULES[name](left, falls)
