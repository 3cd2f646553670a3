"""The same mapping as secondpass's own: these are its test's cases."""

import unittest

import corpus  # noqa: F401
from secondpass_train.normalise import TextMap

LOWER = [
    ("Hello,", "hello"),
    ("\u201cWell,\u201d", "well"),
    ("-", ""),
    ("...", ""),
    ("don\u2019t", "don't"),
    ("Twenty-One.", "twenty-one"),
    ("'Tis", "'tis"),
    ("dogs'", "dogs'"),
    ("'quoted'", "quoted"),
    ("\u2018well,\u2019", "well"),
    ("wait\u2014what?", "wait what"),
    ("no--yes", "no yes"),
    ("so...what", "so what"),
    ("\u00c9T\u00c9", "\u00e9t\u00e9"),
    ("$5", "5"),
    ("3.5%", "3.5"),
    ("&", ""),
    ("'", ""),
    ("''", ""),
    ("''a''", "a"),
    ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),
    ("\u00bfqu\u00e9?", "qu\u00e9"),
    ("\u092a\u094d\u0964", "\u092a\u094d"),
    ("U.S.", "u.s"),
]


class Mapping(unittest.TestCase):
    def test_as_secondpass_maps(self):
        lower = TextMap(case="lower", strip_punctuation=True)
        for word, expected in LOWER:
            self.assertEqual(lower.line(word), expected, word)
        self.assertEqual(TextMap(case="upper").line("stra\u00dfe,"), "STRASSE,")
        self.assertEqual(TextMap().line("  Hello,\tyou "), "Hello, you")
        self.assertEqual(TextMap(unicode="nfc").line("\u1112\u1161\u11ab\u1100\u1173\u11af"), "\ud55c\uae00")


if __name__ == "__main__":
    unittest.main()
