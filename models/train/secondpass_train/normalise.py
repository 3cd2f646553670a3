"""Text as a language model should see it: the same mapping that secondpass applies when it scores.

Train on mapped text, and give the model the same options in the configuration (`case`,
`strip_punctuation`, `unicode`): then words look alike in training and in use.
"""

import unicodedata
from dataclasses import dataclass

# Em and en dash, horizontal bar, two or three hyphens, ellipsis; longest first.
_JOINTS = ("\u2014", "\u2013", "\u2015", "\u2026", "---", "--", "...")
_MARKS = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\uff07": "'", "\u2010": "-", "\u2011": "-"})
_ASCII_SPACE = " \t\n\v\f\r"

# Ranges of punctuation outside ASCII, and of the symbols written beside words. The complement of letters and
# digits would not do: it holds the vowel signs of Indic scripts.
_RANGES = (
    (0xA1, 0xA9), (0xAB, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF), (0x37E, 0x37E),
    (0x387, 0x387), (0x55A, 0x55F), (0x589, 0x589), (0x5BE, 0x5BE), (0x5C0, 0x5C0), (0x5C3, 0x5C3), (0x5F3, 0x5F4),
    (0x60C, 0x60C), (0x61B, 0x61B), (0x61F, 0x61F), (0x66A, 0x66D), (0x6D4, 0x6D4), (0x964, 0x965),
    (0x1361, 0x1368), (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20C0), (0x2122, 0x2122), (0x2669, 0x266F),
    (0x3001, 0x3003), (0x3008, 0x3020), (0x30FB, 0x30FB), (0xFE50, 0xFE6B), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40), (0xFF5B, 0xFF65),
)  # fmt: skip
_PUNCTUATION = frozenset(
    [chr(code) for code in range(0x21, 0x7F) if not chr(code).isalnum()]
    + [chr(code) for first, last in _RANGES for code in range(first, last + 1)]
)
_STRIPPED = "".join(_PUNCTUATION - {"'"})


@dataclass(frozen=True)
class TextMap:
    """The keys of a model in a configuration file, with the same meaning."""

    case: str = "keep"  # keep, lower, upper
    strip_punctuation: bool = False
    unicode: str = "keep"  # keep, nfc

    def line(self, line: str) -> str:
        """The mapped words of a line, single spaces between them."""
        return " ".join(part for word in line.split() for part in self.word(word))

    def word(self, word: str) -> list[str]:
        """What one word becomes; there may be nothing left."""
        if self.unicode == "nfc":
            word = unicodedata.normalize("NFC", word)
        parts = [word]
        if self.strip_punctuation:
            parts = [_trim(part) for part in _split_at_dashes(word.translate(_MARKS))]
        if self.case != "keep":
            parts = [part.lower() if self.case == "lower" else part.upper() for part in parts]
        return [part for part in parts if part]


def _split_at_dashes(word: str) -> list[str]:
    for joint in _JOINTS:
        word = word.replace(joint, "\0")
    return word.split("\0")


def _trim(word: str) -> str:
    """Without the punctuation around it; 'tis and dogs' keep their apostrophes, 'quotes' do not."""
    while True:
        word = word.strip(_STRIPPED)
        opened = word.startswith("'")
        closed = len(word) > 1 and word.endswith("'")
        elision = opened and not closed and len(word) > 1 and word[1] not in "'-"
        genitive = closed and not opened and word[-2] in "sS"
        if elision or genitive or not (opened or closed):
            return word
        word = word[opened : len(word) - closed]
