"""Korean text -> one sentence a line, as the models see it: `python prepare.py korean-ccby.txt --out FOLDER`.

Writes train.txt and dev.txt; one block of 200 lines in 20 is held out. Run with models/train on PYTHONPATH.
"""

import argparse
import re
from pathlib import Path

from secondpass_train.normalise import TextMap

MAP = TextMap(case="lower", strip_punctuation=True, unicode="nfc")
# The text has many sentences on a line, often without a space between them.
BETWEEN_SENTENCES = re.compile(r'(?<=[.?!。])["”’」』)]*(?:\s+|(?=[가-힣"“‘「『(●◈▶■]))')
QUOTES, BRACKETS = re.compile("[“”‘’\"]+"), re.compile(r"[()\[\]<>《》〈〉『』「」【】·•/]")
SYLLABLE = re.compile("[가-힣]")
BLOCK, BLOCKS, HELD_OUT = 200, 20, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    parts: dict[str, list[str]] = {"train": [], "dev": []}
    for number, line in enumerate(arguments.text.read_text(encoding="utf-8").split("\n")):
        held_out = number // BLOCK % BLOCKS == HELD_OUT
        for sentence in BETWEEN_SENTENCES.split(line):
            mapped = MAP.line(BRACKETS.sub(" ", QUOTES.sub("", sentence or "")))
            if is_korean(mapped) and mapped not in seen:
                seen.add(mapped)
                parts["dev" if held_out else "train"].append(mapped)
    for name, sentences in parts.items():
        (arguments.out / f"{name}.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
        print(f"{name}: {len(sentences)} sentences, {sum(len(line.split()) for line in sentences)} words")


def is_korean(sentence: str) -> bool:
    """Not a fragment, a table or a list of foreign names."""
    letters = sentence.replace(" ", "")
    return len(letters) >= 4 and len(sentence) <= 400 and len(SYLLABLE.findall(letters)) >= 0.6 * len(letters)


if __name__ == "__main__":
    main()
