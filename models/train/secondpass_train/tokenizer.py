"""The SentencePiece tokenizer: trained on a sample of the text, then used to encode all of it to disk."""

import itertools
from pathlib import Path
from typing import Iterable, Iterator

import numpy
import sentencepiece

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2

# Token ids are kept in two bytes: half the disk and memory traffic of four.
MAX_VOCABULARY = 1 << 16

_LINES_AT_ONCE = 50_000


def train(lines: Iterable[str], vocabulary: int, model_path: Path, threads: int) -> None:
    """Trains a unigram tokenizer; `<unk>`, `<s>`, `</s>` take the ids 0, 1, 2.

    Normalisation is `identity`: the text decides case and marks, and a rescorer must
    be able to repeat the tokenisation without a normalisation table.
    """
    if vocabulary > MAX_VOCABULARY:
        raise SystemExit(f"--vocabulary {vocabulary}: at most {MAX_VOCABULARY}")
    with open(model_path, "wb") as sink:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=sink,
            model_type="unigram",
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            character_coverage=0.9999,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            eos_id=EOS_ID,
            pad_id=-1,
            num_threads=threads,
            minloglevel=2,
        )


def load(model_path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(model_path))


def encode_to_disk(
    processor: sentencepiece.SentencePieceProcessor,
    lines: Iterator[str],
    tokens_path: Path,
    starts_path: Path,
    threads: int,
    report=lambda sentences, tokens: None,
) -> None:
    """Writes all sentences, each closed by `</s>`, as one uint16 array, and where each begins.

    The text is read as a stream: memory does not grow with it, apart from the
    table of beginnings (8 bytes a sentence).
    """
    starts: list[numpy.ndarray] = []
    total = 0
    count = 0
    with open(tokens_path, "wb") as sink:
        for group in _groups(lines, _LINES_AT_ONCE):
            encoded = processor.encode(group, add_eos=True, num_threads=threads)
            lengths = numpy.fromiter(map(len, encoded), dtype=numpy.int64, count=len(encoded))
            flat = numpy.fromiter(
                itertools.chain.from_iterable(encoded), dtype=numpy.uint16, count=int(lengths.sum())
            )
            flat.tofile(sink)
            starts.append(total + numpy.cumsum(lengths) - lengths)
            total += int(lengths.sum())
            count += len(group)
            report(count, total)
    starts.append(numpy.array([total], dtype=numpy.int64))
    numpy.save(starts_path, numpy.concatenate(starts))


def _groups(lines: Iterator[str], size: int) -> Iterator[list[str]]:
    lines = iter(lines)
    while group := list(itertools.islice(lines, size)):
        yield group
