#!/usr/bin/env python3
"""secondpass beside the ways people rescore with ONNX Runtime and PyTorch today.

    cargo build --release
    SECONDPASS_DATA=... python3 benches/peers/run.py [--cases shipped:100,2x650:10] [--budget 15]

Makes its own Python environment (target/peers/venv), models with random weights where none is trained,
runs all engines in turn, and writes a table (results.md), all figures (results.json) and a chart
(results.svg) to target/peers. README.md beside this file says what is measured and how it is kept fair.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target" / "peers"
# What pip calls them, and Python.
PACKAGES = {"numpy": "numpy", "onnx": "onnx", "onnxruntime": "onnxruntime", "sentencepiece": "sentencepiece", "kenlm": "kenlm"}
CASES = "shipped:100,2x650:100,2x650:10,3x2048:100,1x512-200k:100,ngram"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=Path, help="default: $SECONDPASS_DATA/nbest/flite-librispeech.dev.jsonl")
    parser.add_argument("--cases", default=CASES, help="MODEL:HYPOTHESES by comma; MODEL is a name or a folder with "
                        "model.onnx (a trained one: its errors count); `ngram` is n-gram rescoring beside KenLM's module")
    parser.add_argument("--engines", default="all", help="only peers whose names have one of these words, by comma; secondpass always runs")
    parser.add_argument("--modes", default="all", help="only secondpass's fast modes with these words; `none`: exact only")
    parser.add_argument("--mode", action="append", default=[], metavar="NAME=FLAGS", help="one more mode of secondpass (repeatable)")
    parser.add_argument("--budget", type=float, default=15, help="seconds for each engine and case, all rounds together")
    parser.add_argument("--least", type=int, default=24, help="lists that keep all workers of secondpass busy")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--weight", type=float, default=7.0, help="the model's weight beside `score`: it decides who wins")
    parser.add_argument("--risk", default="0.01", help="given to --risk, where secondpass has that")
    parser.add_argument("--ngram", type=Path, help="a KenLM binary for `ngram`; default: novels3.probing of $SECONDPASS_DATA")
    parser.add_argument("--out", type=Path, default=WORK / "results", help="files to write, without their endings")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out (several GB to install)")
    parser.add_argument("--python", type=Path, help="a Python that has all packages, instead of making an environment")
    return parser.parse_args()


def environment(options) -> Path:
    python = options.python or WORK / "venv" / "bin" / "python"
    packages = PACKAGES if options.no_torch else PACKAGES | {"torch": "torch"}
    modules = ", ".join(packages.values())
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
    if subprocess.run([python, "-c", f"import {modules}"], capture_output=True).returncode:
        if options.python:
            sys.exit(f"{python} has not all of: {modules}")
        print(f"installing {modules} in {WORK / 'venv'}", flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def main():
    options = arguments()
    if os.environ.get("SECONDPASS_PEERS") is None:
        python = environment(options)
        os.environ["SECONDPASS_PEERS"] = "1"
        # numpy's library reads it when it is loaded.
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
        # From here on in the environment just made.
        os.execv(python, [str(python), str(Path(__file__).resolve()), *sys.argv[1:]])
    sys.path.insert(0, str(HERE))
    import chart
    import compare

    data = os.environ.get("SECONDPASS_DATA")
    if options.lists is None:
        if data is None:
            sys.exit("which lists? give --lists FILE, or set SECONDPASS_DATA")
        options.lists = Path(data) / "nbest" / "flite-librispeech.dev.jsonl"
    if options.ngram is None and data is not None:
        options.ngram = Path(data) / "kenlm" / "bin" / "novels3.probing.gz"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table = options.out.with_suffix(".md").open("w", encoding="utf-8")

    def say(text=""):
        print(text, flush=True)
        print(text, file=table, flush=True)

    results = {"threads": options.threads, "budget_s": options.budget, "rounds": options.rounds, "cases": {}}
    for case in options.cases.split(","):
        results["cases"][case] = compare.run(case, options, WORK, ROOT, say)
        # After each: what was measured stays if a later one fails.
        options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        options.out.with_suffix(".svg").write_text(chart.draw(results))
    print("wrote " + ", ".join(str(options.out.with_suffix(end)) for end in (".md", ".json", ".svg")))


if __name__ == "__main__":
    main()
