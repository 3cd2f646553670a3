#!/usr/bin/env python3
"""Speed on a GPU: `python3 benches/cuda.py [--lists FILE] [--device cuda:0] [MODEL...]`.

Builds nothing: it takes the program, ONNX Runtime and CUDA as they are (`secondpass doctor --cuda` says what is
missing). For each model, one session and one worker: 12-best and 100-best lists one utterance at a time, and all
100-best lists at once. Without models: the shipped LSTM, and 3 layers of 2048 over 500 pieces with random weights,
which `benches/peers/models.py` makes (numpy, onnx and sentencepiece are needed for that).
`--stand-in` runs the same graphs with the processor as the device; its figures say nothing about a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "peers" / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secondpass", default=str(ROOT / "target/release/secondpass"))
    parser.add_argument("--lists", type=Path, help="default: $SECONDPASS_DATA/nbest/flite-librispeech.dev.jsonl")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--first", type=int, default=552, help="lists measured at once")
    parser.add_argument("--alone", type=int, default=100, help="lists measured one at a time")
    parser.add_argument("--rows", type=int, default=1024, help="--batch-rows of the part at once")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("models", nargs="*", help="shipped, 3x2048, 2x650, 1x512-200k, or files")
    given = parser.parse_args()
    if given.lists is None:
        data = os.environ.get("SECONDPASS_DATA") or sys.exit("which lists? give --lists FILE, or set SECONDPASS_DATA")
        given.lists = Path(data) / "nbest" / "flite-librispeech.dev.jsonl"
    print(
        "| model | 12-best alone, p50 / p95 ms | 100-best alone, p50 / p95 ms | all 100-best, raw tokens/s | in tf32 "
        "| histories/s | rows a step |\n|---|---|---|---|---|---|---|", flush=True,
    )
    for name in given.models or ["shipped", "3x2048"]:
        model = file(name, given.lists)
        few, many = (bench(given, model, hypotheses) for hypotheses in (12, 100))
        rough = None if given.stand_in else bench(given, model, 100, "--precision", "tf32")
        fast = f"{rough['models'][next(iter(rough['models']))]['raw_tokens_per_s']:,.0f}" if rough else "-"
        alone = [f"{run['latency_ms']['p50']:.2f} / {run['latency_ms']['p95']:.2f}" for run in (few, many)]
        [work] = many["models"].values()
        print(
            f"| {name} | {alone[0]} | {alone[1]} | {work['raw_tokens_per_s']:,.0f} | {fast} | {work['histories_per_s']:,.0f} "
            f"| {work['rows_per_step']:.0f} |", flush=True,
        )
    print("\nAimed at on one H200 with 3x2048 in float32: at most 6 ms, at most 10 ms, at least 400,000 raw tokens/s\n(1,000,000 in tf32).")


def file(name: str, lists: Path) -> Path:
    made = FOLDER / name / "model.onnx"
    if name == "shipped":
        return ROOT / "models/en/lstm/model.onnx"
    if Path(name).suffix == ".onnx" or made.is_file():
        return Path(name) if Path(name).suffix == ".onnx" else made
    sys.path.insert(0, str(ROOT / "benches/peers"))
    try:
        import models
    except ImportError as error:
        sys.exit(f"{made} is made once, and that needs Python's numpy, onnx and sentencepiece ({error})")
    return models.make(name, lists, FOLDER, ROOT)


def bench(given: argparse.Namespace, model: Path, hypotheses: int, *more: str) -> dict:
    device = ["--device", "cpu", "--bound"] if given.stand_in else ["--device", given.device]
    command = [
        given.secondpass, "bench", given.lists, *device, "--rnnlm", model, "--weight", "rnnlm=1", "--weight", "score=1",
        "--json", "--jobs", 1, "--hypotheses", hypotheses, "--first", given.first, "--alone", given.alone,
        "--batch-rows", given.rows, *more,
    ]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else sys.exit(done.returncode)


if __name__ == "__main__":
    main()
