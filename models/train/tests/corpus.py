"""What the tests train on: sentences made up from a few words, so that a tiny model learns them in seconds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import make_tiny  # noqa: E402
from secondpass_train.settings import Settings  # noqa: E402


def write(folder: Path, sentences: int = 600) -> None:
    """train.txt and dev.txt."""
    lines = make_tiny.made_up_sentences(seed=5, count=sentences)
    (folder / "train.txt").write_text("\n".join(lines[:-60]) + "\n")
    (folder / "dev.txt").write_text("\n".join(lines[-60:]) + "\n")


def settings(folder: Path, out: str = "out", **changes) -> Settings:
    """A run of a few seconds on that corpus."""
    options = dict(
        text=[folder / "train.txt"],
        dev=folder / "dev.txt",
        out=folder / out,
        epochs=4.0,
        vocabulary=60,
        hidden=16,
        lanes=8,
        window=8,
        learning_rate=2e-2,
        evaluations=2,
        patience=0,
        threads=1,
    )
    return Settings(**{**options, **changes})
