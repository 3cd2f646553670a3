#!/usr/bin/env python3
"""What the fast modes of the shipped LSTM cost and change: int8, only the winner with a risk, both, each also with
winners confirmed in f32. Weights, risk and margin are learnt on one half of the speakers (the records' `session`)
and measured on the other, and the reverse. Processor time is that of `rescore` less that of a run on one list, in
turn, forth and back; winners are beside those of everything scored in f32.

    SECONDPASS_DATA=... python3 benches/fast.py [LISTS.jsonl] [--risk 0.016] [--rounds 2]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches" / "peers"))
from accuracy import edits  # noqa: E402 (beside the peers)

PROGRAM = os.environ.get("SECONDPASS", str(ROOT / "target" / "release" / "secondpass"))
MODEL = ["--rnnlm", ROOT / "models" / "en" / "lstm" / "model.onnx", "--case", "lower", "--strip-punctuation"]


def modes(risk):
    exact, only, bare = ["--precision", "f32"], ["--best-only", "--risk", risk], ["--confirm", "0"]
    return {
        "exact": exact,
        "int8": bare,
        "int8, confirmed": [],
        f"risk {risk}": exact + only,
        f"int8, risk {risk}": bare + only,
        f"int8, risk {risk}, confirmed": only,
    }


def run(*arguments):
    """Seconds of processor time."""
    child = subprocess.Popen([PROGRAM, *map(str, arguments), "--quiet"])
    _, status, used = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(map(str, child.args))}")
    return used.ru_utime + used.ru_stime


def halves(lists, folder):
    records = [(json.loads(line), line) for line in open(lists, encoding="utf-8")]
    speakers = sorted({record.get("session") for record, _ in records} - {None})
    if len(speakers) < 2:
        raise SystemExit(f"{lists}: the halves are speakers, and no `session` says who they are")
    first = set(speakers[::2])
    files = [folder / "a.jsonl", folder / "b.jsonl"]
    for file, chosen in zip(files, (True, False)):
        file.write_text("".join(line for record, line in records if (record.get("session") in first) == chosen))
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", nargs="?", type=Path)
    parser.add_argument("--risk", default="0.016")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    lists = options.lists or Path(os.environ["SECONDPASS_DATA"]) / "nbest" / "flite-librispeech.dev.jsonl"
    chosen = modes(options.risk)
    seconds = dict.fromkeys(chosen, 0.0)
    winners = {mode: {} for mode in chosen}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = halves(lists, folder)
        for learnt, measured in (files, files[::-1]):
            tuned, one, out = folder / f"{learnt.stem}.toml", folder / "one.jsonl", folder / "out.jsonl"
            # The smaller half is too small for a confirm risk of 0.01.
            run("tune", learnt, *MODEL, "--no-words", "--force", "--precision", "int8", "--confirm-risk", "0.02", "--write", tuned)
            with open(measured, encoding="utf-8") as file:
                one.write_text(file.readline())
            best = dict.fromkeys(chosen, float("inf"))
            for round_ in range(options.rounds):
                for mode, flags in list(chosen.items())[:: -1 if round_ % 2 else 1]:
                    start = run("rescore", one, "--config", tuned, *flags, "-o", out)
                    best[mode] = min(best[mode], run("rescore", measured, "--config", tuned, *flags, "-o", out) - start)
                    for record in map(json.loads, open(out, encoding="utf-8")):
                        confirmed = record["secondpass"].get("confirmed", 0)
                        winners[mode][record["id"]] = (record["hyps"][0]["text"], record["ref"], confirmed)
            for mode in chosen:
                seconds[mode] += best[mode]
    print("| | time | scored again | other winners | WER |")
    print("|---|---|---|---|---|")
    exact = winners["exact"]
    for mode, found in winners.items():
        wrong = sum(edits(text.split(), ref.split()) for text, ref, _ in found.values())
        words = sum(len(ref.split()) for _, ref, _ in found.values())
        again = sum(confirmed for *_, confirmed in found.values()) / len(found)
        changed = sum(text != exact[key][0] for key, (text, *_) in found.items())
        share = seconds[mode] / seconds["exact"]
        print(f"| {mode} | {share:.3f} | {again:.2f} | {changed} of {len(found)} | {100 * wrong / words:.2f} % |")


if __name__ == "__main__":
    main()
