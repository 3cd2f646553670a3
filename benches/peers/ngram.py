"""N-gram-only rescoring of the lists, JSON in and out: the program beside a script around KenLM's module."""

import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from program import Program

WEIGHT = 7.0


def run(options, work, root, say):
    if options.ngram is None or not options.ngram.exists():
        raise SystemExit("ngram: which model? give --ngram FILE, a KenLM binary, or set SECONDPASS_DATA")
    model = options.ngram
    if model.suffix == ".gz":
        model = work / model.stem
        if not model.exists():
            with gzip.open(options.ngram) as packed, model.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    program = Program(root, options.threads, WEIGHT, options.risk).path
    ours, theirs = work / "ngram-ours.jsonl", work / "ngram-theirs.jsonl"
    base = ["--ngram", str(model), "--weight", f"ngram={WEIGHT}", "--jobs", "1", "--quiet"]
    peer = [sys.executable, str(Path(__file__).parent / "kenlm_rescore.py"), str(model), str(WEIGHT)]
    empty = work / "empty.jsonl"
    empty.write_text("")
    lists = options.lists
    hypotheses = sum(len(json.loads(line)["hyps"]) for line in lists.open(encoding="utf-8"))
    commands = {
        "secondpass, one worker": lambda path, out: [program, "rescore", str(path), *base, "--output", str(out)],
        "Python with KenLM's module": lambda path, out: [*peer, str(path), str(out)],
    }
    files = {"secondpass, one worker": ours, "Python with KenLM's module": theirs}
    figures = {name: [] for name in commands}
    for _ in range(max(3, options.rounds)):
        for name, command in commands.items():
            whole = timed(command(lists, files[name]))
            # Opening the model is no part of a stream's rate.
            start = timed(command(empty, os.devnull if name != "secondpass, one worker" else work / "empty.out"))
            figures[name].append([a - b for a, b in zip(whole, start)])
    worst = difference(ours, theirs)
    if not worst <= 1e-3:
        raise SystemExit(f"ngram: scores differ by {worst}")
    say(f"\n### n-gram only\n\n{hypotheses} hypotheses, {model.name}, scores within {worst:.1e}; without start-up.\n")
    say("| | hypotheses/s of processor time | hypotheses/s of wall time |\n|---|---|---|")
    out = {}
    for name, values in figures.items():
        cpu, wall = (hypotheses / statistics.median(column) for column in zip(*values))
        out[name] = {"per_cpu_second": cpu, "per_second": wall, "cpu_and_wall_s": values}
        say(f"| {name} | {cpu:,.0f} | {wall:,.0f} |")
    return {"hypotheses": hypotheses, "model": str(model), "largest_difference": worst, "rates": out}


def timed(command):
    """Processor and wall seconds of a process."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def difference(ours, theirs):
    worst = 0.0
    for one, other in zip(ours.open(encoding="utf-8"), theirs.open(encoding="utf-8"), strict=True):
        scores = [{hyp["rank"]: hyp["scores"]["ngram"] for hyp in json.loads(line)["hyps"]} for line in (one, other)]
        worst = max([worst, *(abs(scores[0][rank] - scores[1][rank]) for rank in scores[1])])
    return worst
