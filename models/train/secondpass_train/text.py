"""Reading text: one sentence a line, plain or compressed."""

import bz2
import gzip
import itertools
import lzma
import random
from pathlib import Path
from typing import Iterable, Iterator

_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def sentences(paths: Iterable[Path]) -> Iterator[str]:
    """Every line of every file that is not blank, with single spaces between its words."""
    for path in paths:
        with open_text(path) as lines:
            for line in lines:
                words = line.split()
                if words:
                    yield " ".join(words)


def open_text(path: Path):
    """Opens a file for reading by what its name ends in."""
    return _OPENERS.get(Path(path).suffix, open)(path, "rt", encoding="utf-8", errors="replace")


def sample(items: Iterable[str], size: int, seed: int) -> list[str]:
    """A uniform sample of a stream whose length is unknown (reservoir sampling)."""
    chooser = random.Random(seed)
    kept: list[str] = []
    for index, item in enumerate(items):
        if index < size:
            kept.append(item)
        else:
            place = chooser.randrange(index + 1)
            if place < size:
                kept[place] = item
    return kept


def groups(items: Iterable, size: int) -> Iterator[list]:
    """The same items, up to `size` at once."""
    items = iter(items)
    while group := list(itertools.islice(items, size)):
        yield group
