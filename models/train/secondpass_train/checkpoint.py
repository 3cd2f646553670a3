"""Checkpoints: everything needed to go on training, or to export."""

import os
from pathlib import Path

import torch

from .model import LanguageModel, Shape


def save(path: Path, model: LanguageModel, optimiser, progress: dict) -> None:
    """Written beside and renamed, so that a stop in the middle leaves the last good one."""
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "shape": model.shape.as_dict(),
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "progress": progress,
        },
        partial,
    )
    os.replace(partial, path)


def read(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def load_model(path: Path, dropout: float = 0.0) -> LanguageModel:
    return model_of(read(path), dropout)


def model_of(stored: dict, dropout: float = 0.0) -> LanguageModel:
    model = LanguageModel(Shape(**stored["shape"]), dropout)
    model.load_state_dict(stored["model"])
    return model
