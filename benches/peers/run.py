#!/usr/bin/env python3
"""secondpass beside the ways people rescore with ONNX Runtime and PyTorch today.

    cargo build --release
    SECONDPASS_DATA=... python3 benches/peers/run.py [--models shipped,2x650] [--rounds 3]

Makes its own Python environment (target/peers), and models with random weights where none is
trained: speed does not know the difference. All engines get the same lists, the same model and the
same number of threads, and run in turn, A B C A B C; the medians are reported, as multiples of
the floor: the arithmetic of the distinct histories at the best matrix-product rate measured in
the same run. All sentence scores are compared: engines that do not agree are not timed.
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
PACKAGES = ["numpy", "onnx", "onnxruntime", "sentencepiece"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=Path, help="default: $SECONDPASS_DATA/nbest/flite-librispeech.dev.jsonl")
    parser.add_argument("--models", default="shipped,2x650,3x2048,1x512-200k", help="which, by comma")
    parser.add_argument("--engines", default="all", help="which, by comma: secondpass always runs")
    parser.add_argument("--hypotheses", type=int, default=100, help="cut lists to so many")
    parser.add_argument("--first", type=int, default=0, help="only so many lists (0: as many as each model allows)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=WORK / "results.json")
    parser.add_argument("--torch", action="store_true", help="PyTorch too (several GB to install)")
    return parser.parse_args()


def environment(torch: bool) -> Path:
    python = WORK / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
    packages = PACKAGES + (["torch"] if torch else [])
    modules = ", ".join(packages)
    if subprocess.run([python, "-c", f"import {modules}"], capture_output=True).returncode:
        print(f"installing {modules} in {WORK / 'venv'}", flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def main():
    options = arguments()
    if os.environ.get("SECONDPASS_PEERS") is None:
        python = environment(options.torch)
        os.environ["SECONDPASS_PEERS"] = "1"
        # From here on in the environment just made.
        os.execv(python, [str(python), str(Path(__file__).resolve()), *sys.argv[1:]])
    sys.path.insert(0, str(HERE))
    import compare

    if options.lists is None:
        data = os.environ.get("SECONDPASS_DATA")
        if data is None:
            sys.exit("which lists? give --lists FILE, or set SECONDPASS_DATA")
        options.lists = Path(data) / "nbest" / "flite-librispeech.dev.jsonl"
    results = compare.run(options, WORK, ROOT)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {options.out} and {options.out.with_suffix('.svg')}")
    options.out.with_suffix(".svg").write_text(compare.chart(results))


if __name__ == "__main__":
    main()
