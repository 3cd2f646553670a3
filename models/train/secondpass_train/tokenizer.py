"""Tokenizers: SentencePiece (unigram, BPE, characters) and word lists.

All are made from the text, write one file beside the model, and turn a line into ids closed by `</s>`.
"""

import collections
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator

import numpy

from . import text

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
KINDS = ("unigram", "bpe", "characters", "words")

_LINES_AT_ONCE = 50_000
_WORD_SPECIALS = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Encoded:
    """A line as ids, and the spellings of what became `<unk>`."""

    ids: list[int]
    unknown: list[str]


class Pieces:
    """A SentencePiece model; its file is `bpe.model` whatever its kind."""

    kind = "sentencepiece"
    file = "bpe.model"

    def __init__(self, path: Path):
        # Imported here: a machine that only trains on ids needs no SentencePiece.
        import sentencepiece

        self.path = path
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.size = self.processor.vocab_size()
        self.bos, self.eos, self.unk = self.processor.bos_id(), self.processor.eos_id(), self.processor.unk_id()

    def encode(self, lines: list[str], threads: int = 1) -> list[list[int]]:
        return self.processor.encode(lines, add_eos=True, num_threads=threads)

    def spell(self, line: str) -> Encoded:
        # Pieces as text keep what was unknown as it was.
        ids, pieces = self.processor.encode(line), self.processor.encode(line, out_type=str)
        unknown = [piece.lstrip("\u2581") for number, piece in zip(ids, pieces) if number == self.unk]
        return Encoded([*ids, self.eos], unknown)


class Words:
    """A word list, `tokens.txt`: a word and its id on each line."""

    kind = "words"
    file = "tokens.txt"

    def __init__(self, path: Path):
        self.path = path
        pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        self.ids = {word: int(number) for word, number in pairs}
        self.size = max(self.ids.values()) + 1
        self.unk, self.bos, self.eos = (self.ids[symbol] for symbol in _WORD_SPECIALS)

    def encode(self, lines: list[str], threads: int = 1) -> list[list[int]]:
        return [[*(self.ids.get(word, self.unk) for word in line.split()), self.eos] for line in lines]

    def spell(self, line: str) -> Encoded:
        words = line.split()
        return Encoded(self.encode([line])[0], [word for word in words if word not in self.ids])


def train(lines: Iterable[str], kind: str, vocabulary: int, folder: Path, coverage: float = 0.9999, threads: int = 1):
    """Trains a tokenizer of one of `KINDS` and writes it to the folder.

    `words` reads all lines; give the others a sample. `coverage` is the share of
    the text's characters that are no `<unk>` (SentencePiece's character_coverage).
    """
    if kind == "words":
        return _list_words(lines, vocabulary, folder / Words.file)
    return _train_pieces(lines, kind, vocabulary, folder / Pieces.file, coverage, threads)


def load(folder: Path):
    """The tokenizer that lies in a folder."""
    for reader in (Pieces, Words):
        if (folder / reader.file).is_file():
            return reader(folder / reader.file)
    raise SystemExit(f"{folder}: no {Pieces.file} or {Words.file} there; a model needs its tokenizer beside it")


def is_in(folder: Path) -> bool:
    return any((folder / reader.file).is_file() for reader in (Pieces, Words))


def copy(tokenizer, folder: Path) -> None:
    """Bytes only: a sidecar should not inherit the mode or the dates of a working file."""
    target = folder / tokenizer.file
    if not target.exists() or not target.samefile(tokenizer.path):
        shutil.copyfile(tokenizer.path, target)


def encode_to_disk(
    tokenizer,
    lines: Iterator[str],
    tokens_path: Path,
    starts_path: Path,
    threads: int,
    report=lambda sentences, tokens: None,
) -> None:
    """Writes all sentences, each closed by `</s>`, as one array of ids, and where each begins.

    The text is read as a stream: memory does not grow with it, apart from the
    table of beginnings (8 bytes a sentence).
    """
    starts: list[numpy.ndarray] = []
    total = 0
    count = 0
    with open(tokens_path, "wb") as sink:
        for group in text.groups(lines, _LINES_AT_ONCE):
            encoded = tokenizer.encode(group, threads)
            lengths = numpy.fromiter(map(len, encoded), dtype=numpy.int64, count=len(encoded))
            flat = numpy.fromiter(
                itertools.chain.from_iterable(encoded), dtype=id_type(tokenizer.size), count=int(lengths.sum())
            )
            flat.tofile(sink)
            starts.append(total + numpy.cumsum(lengths) - lengths)
            total += int(lengths.sum())
            count += len(group)
            report(count, total)
    starts.append(numpy.array([total], dtype=numpy.int64))
    numpy.save(starts_path, numpy.concatenate(starts))


def id_type(vocabulary: int):
    """Two bytes an id where they are enough: half the disk and memory traffic of four."""
    return numpy.uint16 if vocabulary <= 1 << 16 else numpy.uint32


def _train_pieces(lines, kind: str, vocabulary: int, path: Path, coverage: float, threads: int) -> Pieces:
    """`<unk>`, `<s>`, `</s>` take the ids 0, 1, 2.

    Normalisation is `identity`: the text decides case and marks, and a rescorer must
    be able to repeat the tokenisation without a normalisation table.
    """
    import sentencepiece

    # Characters have as many as there are; BPE cannot know beforehand how many merges a small text has.
    options = {"hard_vocab_limit": False} if kind in ("unigram", "characters") else {}
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as sink:
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=sink,
                model_type="char" if kind == "characters" else kind,
                vocab_size=vocabulary,
                normalization_rule_name="identity",
                character_coverage=coverage,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                pad_id=-1,
                num_threads=threads,
                minloglevel=2,
                **options,
            )
        except RuntimeError as error:
            raise SystemExit(f"SentencePiece cannot make a {kind} tokenizer of {vocabulary} pieces: {error}") from None
    # In place only when whole: a tokenizer that is found is used.
    partial.replace(path)
    return Pieces(path)


def _list_words(lines: Iterable[str], vocabulary: int, path: Path) -> Words:
    """The most frequent words; equally frequent ones in their own order, so that the list is always the same."""
    counts = collections.Counter()
    for line in lines:
        counts.update(line.split())
    for symbol in _WORD_SPECIALS:
        counts.pop(symbol, None)
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: vocabulary - len(_WORD_SPECIALS)]
    symbols = [*_WORD_SPECIALS, *(word for word, _ in most)]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{symbol} {number}\n" for number, symbol in enumerate(symbols)), encoding="utf-8")
    partial.replace(path)
    return Words(path)
