"""Checkpoints: everything needed to go on training exactly as if it had never stopped, or to export."""

import os
from pathlib import Path

import torch

from . import model
from .model import LanguageModel, Shape

# What training writes: where it stands, and the weights that were best on the held-out text.
LAST, BEST = "checkpoint.pt", "best.pt"


def save(path: Path, content: dict) -> None:
    """Written beside and renamed, so that a stop in the middle leaves the last good one."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def weights(trained: LanguageModel) -> dict:
    """What it takes to make the model again."""
    return {"shape": trained.shape.as_dict(), "model": trained.state_dict()}


def read(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def find(path: Path) -> Path:
    """A checkpoint given by itself or by the folder of its run: there the best weights come first."""
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).exists():
                return path / name
        raise SystemExit(f"{path}: no {BEST} or {LAST} in it; train first")
    return path


def load_model(path: Path, dropout: float = 0.0) -> LanguageModel:
    return model_of(read(path), dropout)


def model_of(stored: dict, dropout: float = 0.0) -> LanguageModel:
    made = model.make(Shape(**stored["shape"]), dropout)
    made.load_state_dict(stored["model"])
    return made
