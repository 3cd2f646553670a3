"""Takes a prepared training folder to a bare GPU machine and the model back.

    python -m secondpass_train prepare --text train.txt.bz2 --dev dev.txt --out work --vocabulary 4000
    python remote.py pack work parts                  # parts/part-00.ids ..: no text, only token ids
    ... copy parts/ and this folder there; where only some fits at a time, unpack parts as they come ...
    bash gpu.sh parts/ out --minutes 30 --hidden 1024 # there: unpack, train on CUDA, export, split
    python remote.py join out here                    # here: checkpoint, best weights, exported model

Ids take as many bits as the vocabulary needs (12 for 4,000 pieces), in parts below --mib each; where
sentences begin is found again from their ends, `</s>`.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy

from secondpass_train import prepare, tokenizer
from secondpass_train.batches import Corpus

_IDS_AT_ONCE = 1 << 22
_SIDECARS = (prepare.HELD, prepare.FACTS, tokenizer.Pieces.file, tokenizer.Words.file)


def pack(folder: Path, out: Path, mib: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    facts = json.loads((folder / prepare.FACTS).read_text())
    corpus = Corpus(folder / prepare.TOKENS, folder / prepare.STARTS, numpy.dtype(facts["type"]))
    bits = max(1, (facts["vocabulary"] - 1).bit_length())
    # Multiples of eight ids end at whole bytes.
    size = max(8, int(mib * (1 << 20)) * 8 // bits // 8 * 8)
    parts = 0
    for parts, start in enumerate(range(0, len(corpus.tokens), size), 1):
        with open(out / f"part-{parts - 1:02}.ids", "wb") as sink:
            for block in range(start, min(start + size, len(corpus.tokens)), _IDS_AT_ONCE):
                ids = corpus.tokens[block : min(block + _IDS_AT_ONCE, start + size)]
                sink.write(to_bits(ids, bits).tobytes())
    for name in _SIDECARS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    packed = {"bits": bits, "ids": len(corpus.tokens), "part": size, "parts": parts, "sha256": _digest(corpus.tokens)}
    (out / "packed.json").write_text(json.dumps(packed) + "\n")
    print(f"{parts} parts of at most {size * bits // 8} bytes, {bits} bits an id")


def unpack(parts: Path, folder: Path) -> bool:
    """Takes in the parts that are there; True once all are, and the folder is ready to train in."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*_SIDECARS, "packed.json"):
        # The facts come last: where they are, all else is whole.
        if (parts / name).is_file() and name != prepare.FACTS:
            shutil.copyfile(parts / name, folder / name)
    packed = json.loads((folder / "packed.json").read_text())
    for part in sorted(parts.glob("part-*.ids")):
        shutil.copyfile(part, folder / part.name)
    missing = [n for n in range(packed["parts"]) if not (folder / f"part-{n:02}.ids").is_file()]
    if (parts / prepare.FACTS).is_file():
        facts = json.loads((parts / prepare.FACTS).read_text())
        (folder / "facts.waiting").write_text(json.dumps(facts, indent=1) + "\n")
    if missing:
        print(f"still missing: {len(missing)} of {packed['parts']} parts")
        return False
    facts = json.loads((folder / "facts.waiting").read_text())
    with open(folder / prepare.TOKENS, "wb") as sink:
        for number in range(packed["parts"]):
            count = min(packed["part"], packed["ids"] - number * packed["part"])
            ids = from_bits(numpy.fromfile(folder / f"part-{number:02}.ids", dtype=numpy.uint8), packed["bits"], count)
            ids.astype(facts["type"]).tofile(sink)
    tokens = numpy.memmap(folder / prepare.TOKENS, dtype=facts["type"], mode="r")
    if _digest(tokens) != packed["sha256"]:
        raise SystemExit(f"{folder}: the ids are not those that were packed; copy the parts again")
    ends = numpy.flatnonzero(numpy.asarray(tokens) == facts["eos"]) + 1
    numpy.save(folder / prepare.STARTS, numpy.concatenate([[0], ends]).astype(numpy.int64))
    for part in folder.glob("part-*.ids"):
        part.unlink()
    (folder / "facts.waiting").rename(folder / prepare.FACTS)
    print(f"{len(ends)} sentences, {len(tokens)} tokens")
    return True


def split(files: list[Path], out: Path, mib: float) -> None:
    """Cuts files into pieces NAME.00, NAME.01 .. of at most `mib`: for channels that limit the size of a file."""
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        with open(file, "rb") as source:
            for number, piece in enumerate(iter(lambda: source.read(int(mib * (1 << 20))), b"")):
                (out / f"{file.name}.{number:02}").write_bytes(piece)


def join(pieces: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names = sorted({path.name.rsplit(".", 1)[0] for path in pieces.glob("*.[0-9][0-9]")})
    for name in names:
        with open(out / name, "wb") as sink:
            for piece in sorted(pieces.glob(f"{name}.[0-9][0-9]")):
                sink.write(piece.read_bytes())
        print(f"{out / name}: {(out / name).stat().st_size} bytes")


def to_bits(ids: numpy.ndarray, bits: int) -> numpy.ndarray:
    """Ids side by side, lowest bit first, as bytes."""
    places = numpy.arange(bits, dtype=numpy.uint32)
    each = (numpy.asarray(ids, dtype=numpy.uint32)[:, None] >> places) & 1
    return numpy.packbits(each.astype(numpy.uint8).ravel(), bitorder="little")


def from_bits(packed: numpy.ndarray, bits: int, count: int) -> numpy.ndarray:
    places = numpy.arange(bits, dtype=numpy.uint32)
    blocks = []
    for start in range(0, count, _IDS_AT_ONCE):
        ids = min(_IDS_AT_ONCE, count - start)
        block = packed[start * bits // 8 : (start + ids) * bits // 8 + 1]
        each = numpy.unpackbits(block, count=ids * bits, bitorder="little").reshape(ids, bits)
        blocks.append((each.astype(numpy.uint32) << places).sum(axis=1, dtype=numpy.uint32))
    return numpy.concatenate(blocks) if blocks else numpy.zeros(0, numpy.uint32)


def _digest(ids: numpy.ndarray) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        digest.update(numpy.asarray(ids[start : start + _IDS_AT_ONCE], dtype="<u4").tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name, first, mib in (("pack", "folder", 56), ("unpack", "parts", None), ("split", "files", 15), ("join", "pieces", None)):
        command = commands.add_parser(name)
        command.add_argument(first, type=Path, nargs="+" if name == "split" else None)
        command.add_argument("out", type=Path)
        if mib:
            command.add_argument("--mib", type=float, default=mib, help="largest size of a part")
    arguments = parser.parse_args()
    if arguments.command == "pack":
        pack(arguments.folder, arguments.out, arguments.mib)
    elif arguments.command == "unpack":
        # 3: more parts are to come.
        raise SystemExit(0 if unpack(arguments.parts, arguments.out) else 3)
    elif arguments.command == "split":
        split(arguments.files, arguments.out, arguments.mib)
    else:
        join(arguments.pieces, arguments.out)


if __name__ == "__main__":
    main()
