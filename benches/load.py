#!/usr/bin/env python3
"""What opening a model costs: `python3 benches/load.py [--secondpass PROGRAM] [MODEL...]`.

Each model scores one empty line in a process of its own, five times: the least processor and wall seconds, the
largest peak memory, and how `inspect` says that it runs. Without models: one of each kind of engine, those of
the fixtures too small for their own size to matter, so that the rest is the runtime's.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = [
    "models/en/4gram.compact",
    "models/en/lstm/model.onnx",
    "models/ko/lstm/model.onnx",
    "fixtures/models/tiny-lstm/model.onnx",
    "fixtures/models/foreign/icefall-no-state/model.onnx",
    "fixtures/models/foreign/hf-gpt-with-past/model.onnx",
    "fixtures/models/foreign/hf-gpt/model.onnx",
    "fixtures/models/foreign/losses/model.onnx",
    "fixtures/models/foreign/keras-next-word/model.onnx",
    "fixtures/models/foreign/feed-forward/model.onnx",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--secondpass", default=str(ROOT / "target/release/secondpass"))
    parser.add_argument("models", nargs="*")
    given = parser.parse_args()
    print("| model | MB | processor s | wall s | peak MiB | runs as |\n|---|---|---|---|---|---|")
    for name in given.models or [str(ROOT / model) for model in MODELS]:
        path = Path(name)
        if not path.is_file():
            print(f"no {name}", file=sys.stderr)
            continue
        kind = "--rnnlm" if path.suffix == ".onnx" else "--ngram"
        runs = [run([given.secondpass, "score", "-q", kind, name]) for _ in range(5)]
        said = subprocess.run([given.secondpass, "inspect", name], capture_output=True, text=True).stdout
        runs_as = next((line[12:].strip() for line in said.splitlines() if line.startswith("runs as")), "?")
        cpu, wall, peak = min(r[0] for r in runs), min(r[1] for r in runs), max(r[2] for r in runs)
        size = path.stat().st_size / 1e6
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        print(f"| {shown} | {size:.1f} | {cpu:.2f} | {wall:.2f} | {peak:.0f} | {runs_as} |", flush=True)


def run(command: list[str]) -> tuple[float, float, float]:
    started = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    child.stdin.write(b"\n")
    child.stdin.close()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit code {child.returncode}")
    # Linux counts KiB.
    return used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
