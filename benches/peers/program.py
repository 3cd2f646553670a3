"""secondpass itself, and the modes it offers."""

import json
import os
import re
import subprocess


class Refused(Exception):
    """It would not run: its last line says why."""


class Program:
    def __init__(self, root, threads, weight, risk):
        self.path = os.environ.get("SECONDPASS", str(root / "target" / "release" / "secondpass"))
        self.threads, self.weight, self.risk = threads, weight, risk

    def run(self, command, *arguments):
        done = subprocess.run([self.path, command, *map(str, arguments)], capture_output=True, check=False)
        if done.returncode:
            raise Refused(f"{command}: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
        return done.stdout.decode()

    def models(self, model, flags):
        # A tuned file has weights of its own, and a risk learnt for these.
        weights = [] if "--weights" in flags else ["--weight", f"rnnlm={self.weight}", "--weight", "score=1"]
        return ["--rnnlm", model, *weights, "--jobs", self.threads]

    def bench(self, model, lists, hypotheses, first, alone, flags):
        more = ["--json", "--hypotheses", hypotheses, "--first", first, "--alone", alone]
        return json.loads(self.run("bench", lists, *self.models(model, flags), *more, *flags))

    def rescored(self, model, lists, flags):
        """By list, in first-pass order: each hypothesis' model score (None if it has none) and place."""
        out = []
        for line in self.run("rescore", lists, *self.models(model, flags), *flags, "--quiet").splitlines():
            hyps = list(enumerate(json.loads(line)["hyps"]))
            hyps.sort(key=lambda pair: pair[1]["rank"])
            out.append([(hyp["scores"].get("rnnlm"), place) for place, hyp in hyps])
        return out

    def modes(self):
        """Fast modes, as far as both `bench` and `rescore` offer them: name -> flags."""
        texts = [self.run(command, "--help") for command in ("bench", "rescore")]
        has = lambda flag: all(re.search(rf"^\s+(-\w, )?{flag}\b", text, re.MULTILINE) for text in texts)
        modes = {}
        if has("--precision"):
            for precision in ("bf16", "int8"):
                if re.search(rf"\b{precision}\b", texts[0]):
                    modes[precision] = ["--precision", precision]
        if has("--output-rank"):
            # Refused where most tokens would be exact anyway.
            modes["rank 128"] = ["--output-rank", "128"]
            if "int8" in modes:
                modes["rank 128 int8"] = ["--output-rank", "128", "--precision", "int8"]
        if has("--best-only"):
            modes["best only"] = ["--best-only"]
        if has("--risk"):
            only = ["--best-only"] if has("--best-only") else []
            modes[f"risk {self.risk}"] = [*only, "--risk", self.risk]
        lossy = [flags for name, flags in modes.items() if name == "int8" or name.startswith("risk")]
        if len(lossy) > 1:
            modes["all together"] = [flag for flags in lossy for flag in flags]
        return modes
