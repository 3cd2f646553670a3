"""Makes a back-off model smaller: fewer words, then entropy pruning (Stolcke 1998), then new back-off weights.

    python prune_arpa.py big.arpa.bz2 small.arpa.gz --ngrams 900000 --vocabulary 100000 --history-text train.txt.bz2

Orders up to three. Probabilities that stay are not touched; back-off weights are computed
anew, so that every distribution still sums to one. Words that are dropped give their unigram
probability to `<unk>`.

Pruning weighs each context by how often it occurs. Kneser-Ney's lower orders are not such
frequencies, and pruning by them throws away the wrong n-grams; `--history-text` counts the
contexts in the text instead.
"""

import argparse
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy

from secondpass_train import text

BOS, EOS, UNK = "<s>", "</s>", "<unk>"

# Below this a left-over mass is rounding, not probability.
_TINY = 1e-9


@dataclass
class Table:
    """The n-grams of one order, sorted by their words' ids; probabilities are plain, not logarithms."""

    words: numpy.ndarray  # [count, order] int64
    prob: numpy.ndarray  # [count]
    backoff: numpy.ndarray  # [count]
    codes: numpy.ndarray  # [count] one sorted number per n-gram

    def __len__(self) -> int:
        return len(self.prob)

    def find(self, codes: numpy.ndarray) -> numpy.ndarray:
        """Row of each code, -1 where there is none."""
        if not len(self):
            return numpy.full(len(codes), -1)
        rows = numpy.minimum(numpy.searchsorted(self.codes, codes), len(self) - 1)
        return numpy.where(self.codes[rows] == codes, rows, -1)

    def select(self, keep: numpy.ndarray) -> "Table":
        return Table(self.words[keep], self.prob[keep], self.backoff[keep], self.codes[keep])


@dataclass
class Model:
    vocabulary: list[str]
    tables: list[Table]  # by order, from 1

    @property
    def bos(self) -> int:
        return self.vocabulary.index(BOS)

    def sizes(self) -> list[int]:
        return [len(table) for table in self.tables]


def prune(model: Model, target: int, history_text: list[Path]) -> Model:
    """Keeps about `target` n-grams (all unigrams among them): those whose loss would cost most."""
    frequencies = _histories(model, history_text)
    costs = [_costs(model, order, frequencies[order - 2]) for order in range(2, len(model.tables) + 1)]
    low, high = -60.0, 0.0  # logarithms of the threshold
    for _ in range(40):
        middle = (low + high) / 2
        keeps = _keep(model, costs, numpy.exp(middle))
        if len(model.tables[0]) + sum(int(keep.sum()) for keep in keeps) > target:
            low = middle
        else:
            high = middle
    print(f"relative perplexity threshold {numpy.exp(high):.3g}")
    keeps = _keep(model, costs, numpy.exp(high))
    tables = [model.tables[0]] + [table.select(keep) for table, keep in zip(model.tables[1:], keeps)]
    return _with_new_backoffs(Model(model.vocabulary, tables))


def limit_vocabulary(model: Model, size: int, history_text: list[Path]) -> Model:
    """Keeps the `size` most frequent words; the others' unigram probability goes to `<unk>`."""
    unigrams = model.tables[0]
    if size >= len(unigrams):
        return model
    weight = _word_counts(model, history_text) if history_text else unigrams.prob.copy()
    for symbol in (BOS, EOS, UNK):
        weight[model.vocabulary.index(symbol)] = numpy.inf
    kept = numpy.zeros(len(unigrams), dtype=bool)
    # The unigram probability decides between words seen equally often.
    kept[numpy.lexsort((-unigrams.prob, -weight))[:size]] = True
    moved = unigrams.prob[~kept].sum()
    unigrams.prob[model.vocabulary.index(UNK)] += moved
    print(f"{len(unigrams) - size} words dropped, their unigram probability {moved:.5f} given to <unk>")
    renumbered = numpy.cumsum(kept) - 1
    vocabulary = [word for word, keep in zip(model.vocabulary, kept) if keep]
    tables = []
    for table in model.tables:
        whole = kept[table.words].all(axis=1)
        tables.append(_table(renumbered[table.words[whole]], table.prob[whole], table.backoff[whole], len(vocabulary)))
    return _with_new_backoffs(Model(vocabulary, tables))


def read(path: Path) -> Model:
    """Reads an ARPA file; ids are given in the words' byte order, which also compresses well."""
    with text.open_text(path) as lines:
        sections = _sections(lines)
    names = [words[0] for words, _, _ in sections[0]]
    vocabulary = sorted(names)
    ids = {word: index for index, word in enumerate(vocabulary)}
    tables = []
    for order, section in enumerate(sections, 1):
        words = numpy.array([[ids[word] for word in ngram] for ngram, _, _ in section], dtype=numpy.int64)
        prob = numpy.power(10.0, numpy.array([prob for _, prob, _ in section]))
        backoff = numpy.power(10.0, numpy.array([backoff for _, _, backoff in section]))
        tables.append(_table(words.reshape(-1, order), prob, backoff, len(vocabulary)))
    # Never predicted; estimators write it as probability one.
    tables[0].prob[ids[BOS]] = 0.0
    return Model(vocabulary, tables)


def write(model: Model, path: Path) -> None:
    sink = io.StringIO()
    sink.write("\\data\\\n")
    for order, table in enumerate(model.tables, 1):
        sink.write(f"ngram {order}={len(table)}\n")
    for order, table in enumerate(model.tables, 1):
        sink.write(f"\n\\{order}-grams:\n")
        contexts = numpy.unique(_prefixes(model, order + 1)) if order < len(model.tables) else numpy.array([])
        extends = numpy.isin(table.codes, contexts)
        with numpy.errstate(divide="ignore"):
            probs = numpy.minimum(numpy.log10(table.prob), 0.0)
            backoffs = numpy.log10(table.backoff)
        for ids, prob, backoff, has in zip(table.words.tolist(), probs, backoffs, extends):
            ngram = " ".join(model.vocabulary[index] for index in ids)
            shown = "0" if ngram == BOS else _number(prob)
            sink.write(f"{shown}\t{ngram}\t{_number(backoff)}\n" if has else f"{shown}\t{ngram}\n")
    sink.write("\n\\end\\\n")
    data = sink.getvalue().encode()
    # No time stamp: the same model gives the same bytes.
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)


# --- pruning


def _costs(model: Model, order: int, frequency: numpy.ndarray) -> numpy.ndarray:
    """Relative rise of perplexity if an n-gram alone were removed."""
    table = model.tables[order - 1]
    lower = _lower_probs(model, order)
    contexts, inverse = numpy.unique(_prefixes(model, order), return_inverse=True)
    numerator = 1.0 - numpy.bincount(inverse, table.prob, len(contexts))
    denominator = 1.0 - numpy.bincount(inverse, lower, len(contexts))
    numerator = numpy.maximum(numerator, _TINY)[inverse]
    denominator = numpy.maximum(denominator, _TINY)[inverse]
    backoff_before = numpy.log(numerator) - numpy.log(denominator)
    backoff_after = numpy.log(numerator + table.prob) - numpy.log(denominator + lower)
    change = table.prob * (numpy.log(lower) + backoff_after - numpy.log(table.prob))
    change += numerator * (backoff_after - backoff_before)
    return numpy.expm1(-frequency[model.tables[order - 2].find(contexts)][inverse] * change)


def _keep(model: Model, costs: list[numpy.ndarray], threshold: float) -> list[numpy.ndarray]:
    """Which n-grams stay: the costly ones, and those that a longer one needs as its beginning or its end."""
    keeps: list[numpy.ndarray] = []
    needed = numpy.array([], dtype=numpy.int64)
    for order in range(len(model.tables), 1, -1):
        keep = (costs[order - 2] >= threshold) | numpy.isin(model.tables[order - 1].codes, needed)
        needed = numpy.concatenate([_prefixes(model, order)[keep], _suffixes(model, order)[keep]])
        keeps.insert(0, keep)
    return keeps


def _with_new_backoffs(model: Model) -> Model:
    """Back-off weights by definition, shorter contexts first: longer ones depend on them."""
    for order in range(2, len(model.tables) + 1):
        table, shorter = model.tables[order - 1], model.tables[order - 2]
        lower = _lower_probs(model, order)
        rows = shorter.find(_prefixes(model, order))
        left = 1.0 - numpy.bincount(rows, table.prob, len(shorter))
        left_lower = 1.0 - numpy.bincount(rows, lower, len(shorter))
        extends = numpy.bincount(rows, minlength=len(shorter)) > 0
        weight = numpy.maximum(left, _TINY) / numpy.maximum(left_lower, _TINY)
        shorter.backoff = numpy.where(extends, weight, 1.0)
    model.tables[-1].backoff = numpy.ones(len(model.tables[-1]))
    return model


def _lower_probs(model: Model, order: int) -> numpy.ndarray:
    """p(last word | context without its first word) for every n-gram of an order."""
    words = model.tables[order - 1].words
    return _prob(model, words[:, 1:])


def _prob(model: Model, words: numpy.ndarray) -> numpy.ndarray:
    order = words.shape[1]
    if order == 1:
        return model.tables[0].prob[words[:, 0]]
    size = len(model.vocabulary)
    table, shorter = model.tables[order - 1], model.tables[order - 2]
    rows = table.find(_code(words, size))
    found = rows >= 0
    result = numpy.empty(len(words))
    result[found] = table.prob[rows[found]]
    missing = words[~found]
    contexts = shorter.find(_code(missing[:, :-1], size))
    weight = numpy.where(contexts >= 0, shorter.backoff[contexts], 1.0)
    result[~found] = weight * _prob(model, missing[:, 1:])
    return result


# --- how often contexts occur


def _histories(model: Model, paths: list[Path]) -> list[numpy.ndarray]:
    """For each order below the highest: the relative frequency of its n-grams as contexts."""
    counts = _history_counts(model, paths) if paths else _history_model(model)
    total = counts[0].sum()
    return [count / total for count in counts]


def _history_model(model: Model) -> list[numpy.ndarray]:
    """By the model itself: the chain rule; a sentence begins as often as one ends."""
    unigrams = model.tables[0].prob.copy()
    unigrams[model.bos] = unigrams[model.vocabulary.index(EOS)]
    result = [unigrams]
    for table in model.tables[1:-1]:
        rows = model.tables[table.words.shape[1] - 2].find(_code(table.words[:, :-1], len(model.vocabulary)))
        result.append(result[-1][rows] * table.prob)
    return result


def _history_counts(model: Model, paths: list[Path]) -> list[numpy.ndarray]:
    size = len(model.vocabulary)
    counts = [numpy.zeros(len(table)) for table in model.tables[:-1]]
    eos = model.vocabulary.index(EOS)
    for ids in _id_blocks(model, paths):
        for order, table in enumerate(model.tables[:-1], 1):
            windows = numpy.stack([ids[start : len(ids) - order + 1 + start] for start in range(order)], axis=1)
            # `</s>` is no context; windows over it join two sentences.
            windows = windows[(windows != eos).all(axis=1)]
            codes, seen = numpy.unique(_code(windows, size), return_counts=True)
            rows = table.find(codes)
            counts[order - 1][rows[rows >= 0]] += seen[rows >= 0]
    return counts


def _word_counts(model: Model, paths: list[Path]) -> numpy.ndarray:
    counts = numpy.zeros(len(model.vocabulary))
    for ids in _id_blocks(model, paths):
        counts += numpy.bincount(ids, minlength=len(counts))
    return counts


def _id_blocks(model: Model, paths: list[Path], lines_at_once: int = 200_000):
    ids = {word: index for index, word in enumerate(model.vocabulary)}
    unknown, bos, eos = ids[UNK], ids[BOS], ids[EOS]
    block: list[int] = []
    lines = 0
    for sentence in text.sentences(paths):
        block.append(bos)
        block.extend(ids.get(word, unknown) for word in sentence.split(" "))
        block.append(eos)
        lines += 1
        if lines % lines_at_once == 0:
            yield numpy.array(block, dtype=numpy.int64)
            block.clear()
    if block:
        yield numpy.array(block, dtype=numpy.int64)


# --- n-grams as numbers


def _table(words, prob, backoff, size: int) -> Table:
    codes = _code(words, size)
    order = numpy.argsort(codes)
    return Table(words[order], prob[order], backoff[order], codes[order])


def _code(words: numpy.ndarray, size: int) -> numpy.ndarray:
    """Words as digits: three of up to two million fit into 63 bits."""
    code = numpy.zeros(len(words), dtype=numpy.int64)
    for column in range(words.shape[1]):
        code = code * size + words[:, column]
    return code


def _prefixes(model: Model, order: int) -> numpy.ndarray:
    return _code(model.tables[order - 1].words[:, :-1], len(model.vocabulary))


def _suffixes(model: Model, order: int) -> numpy.ndarray:
    return _code(model.tables[order - 1].words[:, 1:], len(model.vocabulary))


# --- ARPA


def _sections(lines) -> list[list[tuple[tuple[str, ...], float, float]]]:
    sections: list = []
    for line in lines:
        line = line.strip("\n")
        if line.startswith("\\") and line.endswith("-grams:"):
            sections.append([])
        elif line == "\\end\\":
            break
        elif line and sections:
            fields = line.split("\t")
            backoff = float(fields[2]) if len(fields) > 2 else 0.0
            sections[-1].append((tuple(fields[1].split(" ")), float(fields[0]), backoff))
    if not 2 <= len(sections) <= 3:
        raise SystemExit(f"an ARPA file of order 2 or 3 is needed, this one has {len(sections)} sections")
    return sections


def _number(value: float) -> str:
    # Four decimals of a log10 are a ten-thousandth; more would only fill the file.
    shown = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path, help="compressed if it ends in .gz")
    parser.add_argument("--ngrams", type=int, required=True, help="how many to keep, unigrams included")
    parser.add_argument("--vocabulary", type=int, help="how many words to keep, with <s>, </s>, <unk>")
    parser.add_argument("--history-text", type=Path, nargs="+", default=[], help="text to count contexts in")
    arguments = parser.parse_args()
    model = read(arguments.input)
    print(f"read {model.sizes()}")
    if arguments.vocabulary:
        model = limit_vocabulary(model, arguments.vocabulary, arguments.history_text)
        print(f"after limiting the vocabulary {model.sizes()}")
    model = prune(model, arguments.ngrams, arguments.history_text)
    write(model, arguments.output)
    print(f"wrote {model.sizes()}, {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    _main()
