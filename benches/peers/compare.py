"""Runs the engines in turn, compares their scores, and says what came out."""

import json
import os
import statistics
import subprocess
import time

import engines
import models

TOLERANCE = 1e-3


def run(options, work, root):
    results = {"threads": options.threads, "hypotheses": options.hypotheses, "models": {}}
    for name in options.models.split(","):
        path = models.make(name, options.lists, work / "models", root)
        results["models"][name] = one(name, path, options, work, root)
    return results


def one(name, path, options, work, root):
    first = options.first or models.SHAPES[name].lists
    records = [json.loads(line) for line, _ in zip(options.lists.open(encoding="utf-8"), range(first))]
    for record in records:
        record["hyps"] = record["hyps"][: options.hypotheses]
    lists = work / "lists.jsonl"
    lists.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    tokenizer = models.Tokenizer(path)
    utterances = [[tokenizer.encode(hyp["text"]) for hyp in record["hyps"]] for record in records]
    raw = sum(len(ids) + 1 for hypotheses in utterances for ids in hypotheses)
    # A history is what a token is predicted from: every prefix of a hypothesis, the empty and the whole.
    distinct = sum(len({tuple(ids[:n]) for ids in hyps for n in range(len(ids) + 1)}) for hyps in utterances)
    operations, weights = models.arithmetic(path)

    peers = {
        "one hypothesis at a time": lambda: engines.PerHypothesis(path, tokenizer, options.threads),
        "padded list": lambda: engines.Padded(path, tokenizer, options.threads),
        "padded, sorted, across lists": lambda: engines.Sorted(path, tokenizer, options.threads),
    }
    if options.torch:
        peers["PyTorch, padded list"] = lambda: engines.Torch(weights, tokenizer, options.threads)
    wanted = options.engines.split(",")
    peers = {key: make() for key, make in peers.items() if "all" in wanted or key in wanted}
    program = Program(root, path, lists, options.threads)

    ours = program.scores()
    agreement = {}
    for key, peer in peers.items():
        scores = peer.score(utterances)
        worst = max(abs(a - b) for x, y in zip(scores, ours) for a, b in zip(x, y))
        agreement[key] = worst
        if not worst <= TOLERANCE:
            raise SystemExit(f"{name}: {key} and secondpass differ by {worst}: not the same model, nothing is timed")

    times = {key: [] for key in [*peers, "secondpass", "secondpass, one list at a time"]}
    rate = 0.0
    for _ in range(options.rounds):
        rate = max(rate, engines.best_product_rate(options.threads))
        for key, peer in peers.items():
            begun = time.perf_counter()
            peer.score(utterances)
            times[key].append(time.perf_counter() - begun)
        facts = program.bench()
        times["secondpass"].append(facts["throughput"]["seconds"])
        times["secondpass, one list at a time"].append(facts["latency_ms"]["total"] / 1e3)
    floor = distinct * operations / rate
    medians = {key: statistics.median(values) for key, values in times.items()}
    fed = facts["models"]["rnnlm"]["histories"]
    print(f"\n{name}: {len(records)} lists, {raw} tokens, {distinct} distinct histories ({raw / distinct:.2f} each), "
          f"{rate / 1e9:.0f} GFLOP/s, floor {floor:.2f} s; secondpass fed {fed} histories, "
          f"{facts['peak_memory_bytes'] / 2**20:.0f} MiB", flush=True)
    for key, seconds in medians.items():
        spread = f"{min(times[key]):.2f}-{max(times[key]):.2f}"
        agrees = f"  differs by {agreement[key]:.1e}" if key in agreement else ""
        print(f"  {key:32} {seconds:8.2f} s ({spread})  {seconds / floor:6.2f} x floor{agrees}", flush=True)
    return {
        "lists": len(records), "raw_tokens": raw, "distinct_histories": distinct, "flop_per_history": operations,
        "flop_per_s": rate, "floor_s": floor, "seconds": times, "times_floor": {k: v / floor for k, v in medians.items()},
        "largest_difference": agreement, "peak_memory_bytes": facts["peak_memory_bytes"],
    }


class Program:
    """secondpass itself."""

    def __init__(self, root, model, lists, threads):
        program = os.environ.get("SECONDPASS", str(root / "target" / "release" / "secondpass"))
        self.models = [program, "--rnnlm", str(model), "--weight", "rnnlm=1", "--jobs", str(threads)]
        self.lists = str(lists)

    def command(self, name, *more):
        program, *rest = self.models
        done = subprocess.run([program, name, self.lists, *rest, *more], capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"secondpass {name}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def scores(self):
        by_list = []
        for line in self.command("rescore").splitlines():
            hyps = sorted(json.loads(line)["hyps"], key=lambda hyp: hyp["rank"])
            by_list.append([hyp["scores"]["rnnlm"] for hyp in hyps])
        return by_list

    def bench(self):
        return json.loads(self.command("bench", "--json"))


def chart(results):
    """Bars, in multiples of the floor, on a logarithmic scale."""
    import math

    width, left, bar = 900, 260, 18
    lines, y = [], 30
    top = max(value for model in results["models"].values() for value in model["times_floor"].values())
    low = min(0.5, *(v for model in results["models"].values() for v in model["times_floor"].values()))
    scale = lambda value: (math.log(value) - math.log(low)) / (math.log(top * 1.3) - math.log(low)) * (width - left - 80)
    for name, model in results["models"].items():
        lines.append(f'<text x="10" y="{y}" font-weight="bold">{name}</text>')
        y += 10
        for key, value in model["times_floor"].items():
            colour = "#2b6cb0" if key.startswith("secondpass") else "#a0aec0"
            lines.append(f'<rect x="{left}" y="{y}" width="{max(scale(value), 1):.1f}" height="{bar - 4}" fill="{colour}"/>')
            lines.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{key}</text>')
            lines.append(f'<text x="{left + scale(value) + 6:.1f}" y="{y + 11}">{value:.2f}</text>')
            y += bar
        y += 24
    floor = left + scale(1.0)
    lines.append(f'<line x1="{floor:.1f}" x2="{floor:.1f}" y1="10" y2="{y - 20}" stroke="#c53030" stroke-dasharray="4 3"/>')
    lines.append(f'<text x="{floor:.1f}" y="{y - 6}" text-anchor="middle" fill="#c53030">floor</text>')
    style = "font: 12px sans-serif"
    body = "".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" style="{style}; background: #fff">{body}</svg>\n'
