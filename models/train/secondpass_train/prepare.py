"""Text -> tokenizer, token ids on disk, held-out sentences: made once, found again when a run goes on.

A prepared folder is all that training needs: it can be taken to another machine (`remote.py`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy

from . import evaluate, text, tokenizer
from .batches import Corpus
from .settings import Settings

TOKENS, STARTS, HELD, FACTS = "tokens.bin", "starts.npy", "dev.npz", "corpus.json"


@dataclass(frozen=True)
class Prepared:
    corpus: Corpus
    held: evaluate.Held
    vocabulary: int
    bos: int
    eos: int


def prepare(settings: Settings) -> Prepared:
    folder = settings.out
    folder.mkdir(parents=True, exist_ok=True)
    # Written last: where the facts are, all else is whole.
    if not (folder / FACTS).exists():
        _make(settings)
    return load(folder)


def load(folder: Path) -> Prepared:
    facts = json.loads((folder / FACTS).read_text())
    corpus = Corpus(folder / TOKENS, folder / STARTS, numpy.dtype(facts["type"]))
    print(f"{len(corpus)} sentences, {len(corpus.tokens)} tokens of {facts['vocabulary']} kinds", flush=True)
    return Prepared(corpus, held_of(folder), facts["vocabulary"], facts["bos"], facts["eos"])


def held_of(folder: Path) -> evaluate.Held:
    facts = json.loads((folder / FACTS).read_text())
    stored = numpy.load(folder / HELD)
    sentences = numpy.split(stored["ids"].astype(numpy.int64), stored["ends"][:-1])
    return evaluate.Held(sentences, facts["dev_words"], facts["dev_characters"], facts["dev_unknown"], facts["bos"])


def _make(settings: Settings) -> None:
    folder = settings.out
    if not settings.text or not settings.dev:
        raise SystemExit(f"{folder}: nothing is prepared there; name the text with --text and --dev")
    words = _tokenizer(settings)
    dev = evaluate.spread(list(text.sentences([settings.dev])), settings.dev_sentences)
    if not dev:
        raise SystemExit(f"{settings.dev}: no text in it")
    held = evaluate.encode(words, dev)
    print("encoding the text", flush=True)
    tokenizer.encode_to_disk(
        words, text.sentences(settings.text), folder / TOKENS, folder / STARTS, settings.threads, _report
    )
    ends = numpy.cumsum([len(sentence) for sentence in held.sentences])
    numpy.savez(folder / HELD, ids=numpy.concatenate(held.sentences).astype(numpy.uint32), ends=ends)
    facts = {
        "vocabulary": words.size,
        "type": numpy.dtype(tokenizer.id_type(words.size)).name,
        "bos": words.bos,
        "eos": words.eos,
        "dev_words": held.words,
        "dev_characters": held.characters,
        "dev_unknown": held.unknown,
        "text": [str(path) for path in settings.text],
        "dev": str(settings.dev),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def _tokenizer(settings: Settings):
    if settings.start and not tokenizer.is_in(settings.out):
        tokenizer.copy(tokenizer.load(_folder_of(settings.start)), settings.out)
    if tokenizer.is_in(settings.out):
        return tokenizer.load(settings.out)
    print("training the tokenizer", flush=True)
    lines = text.sentences(settings.text)
    if settings.tokenizer != "words":
        lines = text.sample(lines, settings.tokenizer_sample, settings.seed)
    return tokenizer.train(
        lines, settings.tokenizer, settings.vocabulary, settings.out, settings.coverage, settings.threads
    )


def _folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _report(sentences: int, tokens: int) -> None:
    if sentences % 500_000 == 0:
        print(f"  {sentences} sentences, {tokens} tokens", flush=True)
