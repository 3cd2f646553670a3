"""The samples of a sampled softmax."""

import numpy
import torch

from .prepare import Prepared
from .settings import Settings

# Flatter than the text's own distribution, so that rare words are pushed down too (as in word2vec).
_POWER = 0.75


class Sampler:
    """Draws ids by how often they occur, the same samples for all rows of a batch."""

    def __init__(self, settings: Settings, prepared: Prepared, device: torch.device):
        counts = prepared.corpus.counts(prepared.vocabulary).astype(numpy.float64)
        # One more each: an id that does not occur must still learn that it is unlikely.
        weights = torch.from_numpy((counts + 1.0) ** _POWER)
        self.count = settings.samples
        self.weights = (weights / weights.sum()).to(device)
        # How often an id is expected; ids are drawn with replacement.
        self.log_expected = (torch.log(self.weights) + torch.log(torch.tensor(float(self.count)))).float()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.multinomial(self.weights, self.count, replacement=True), self.log_expected
