"""One case: the engines in turn on the same lists and the same model; their scores compared."""

import json
import statistics
import time

import accuracy
import engines
import floor
import models
import ngram
from program import Program, Refused

TOLERANCE = 1e-3
PER_HYPOTHESIS, PADDED, SORTED = "one hypothesis at a time", "padded list", "padded, sorted, across lists"
OURS, ALONE = "secondpass", "secondpass, one list at a time"


class Entry:
    """An engine of a case, the lists it gets and the seconds they took."""

    def __init__(self, engine, kind):
        self.engine, self.kind, self.lists, self.seconds, self.differs = engine, kind, 0, [], None


def run(case, options, work, root, say):
    if case == "ngram":
        return ngram.run(options, work, root, say)
    name, hypotheses = case.rsplit(":", 1)
    return Case(name, int(hypotheses), options, work, root).run(case, say)


class Case:
    def __init__(self, name, hypotheses, options, work, root):
        self.name, self.hypotheses, self.options = name, hypotheses, options
        self.model = models.make(name, options.lists, work / "models", root)
        self.tokenizer = models.Tokenizer(self.model)
        self.operations, self.weights = models.arithmetic(self.model)
        self.program = Program(root, options.threads, options.weight, options.risk)
        self.records = [json.loads(line) for line in options.lists.open(encoding="utf-8")]
        for record in self.records:
            record["hyps"] = record["hyps"][:hypotheses]
        self.utterances = []
        self.path = work / "lists.jsonl"
        self.folder = work / "int8" / name.strip("/").replace("/", "-")

    def tokens(self, lists):
        """The first `lists` utterances, as ids."""
        for record in self.records[len(self.utterances) : lists]:
            self.utterances.append([self.tokenizer.encode(hyp["text"]) for hyp in record["hyps"]])
        return self.utterances[:lists]

    def raw(self, lists):
        return sum(len(ids) + 1 for hypotheses in self.tokens(lists) for ids in hypotheses)

    def distinct(self, lists):
        # A history is what a token is predicted from: every prefix of a hypothesis, the empty and the whole.
        return sum(len(histories(hypotheses)) for hypotheses in self.tokens(lists))

    def rates(self):
        torch = not self.options.no_torch
        return [floor.rate(threads, torch) for threads in (self.options.threads, 1)]

    def peers(self):
        path, tokenizer, threads = self.model, self.tokenizer, self.options.threads
        int8 = models.quantised(path, self.folder)
        makers = {
            PER_HYPOTHESIS: (engines.PerHypothesis, path, "peer"),
            PADDED: (engines.Padded, path, "peer"),
            SORTED: (engines.Sorted, path, "peer"),
            "padded list, a session a core": (engines.Sessions, path, "peer"),
            "PyTorch, padded list": (engines.Torch, self.weights, "peer"),
            "int8, padded list": (engines.Padded, int8, "peer int8"),
            "int8, padded, sorted": (engines.Sorted, int8, "peer int8"),
        }
        if self.options.no_torch:
            del makers["PyTorch, padded list"]
        wanted = self.options.engines.split(",")
        chosen = {name: maker for name, maker in makers.items() if "all" in wanted or any(word in name for word in wanted)}
        return {name: Entry(maker(model, tokenizer, threads), kind) for name, (maker, model, kind) in chosen.items()}

    def modes(self):
        """The exact mode and the fast ones: name -> flags."""
        modes = {OURS: []}
        offered = self.program.modes() if self.options.modes != "none" else {}
        if not models.trained(self.name):
            # Who can still win depends on scores that mean something.
            offered = {name: flags for name, flags in offered.items() if not {"--best-only", "--risk"} & set(flags)}
        wanted = self.options.modes.split(",")
        modes |= {f"{OURS}, {name}": flags for name, flags in offered.items()
                  if "all" in wanted or any(word in name for word in wanted)}
        return modes | {f"{OURS}, {name}": flags.split() for name, flags in (mode.split("=", 1) for mode in self.options.mode)}

    def choose(self, peers, rates):
        """How many lists each engine gets: what its budget allows."""
        options, all_lists = self.options, len(self.records)
        share = options.budget / options.rounds
        sample = min(8, all_lists)
        one = self.distinct(sample) / sample * self.operations / rates[0][0]  # floor of a list
        ours = max(options.least, min(all_lists, int(share / (1.3 * one))))
        ours = min(ours, all_lists)
        alone = max(min(8, ours), min(ours, int(share / (1.5 * one * options.threads))))
        for name, entry in peers.items():
            first = self.tokens(2 if name == SORTED else 1)
            entry.engine.tune(first)
            begun = time.perf_counter()
            entry.engine.score(first)
            took = (time.perf_counter() - begun) / len(first)
            least = 1 if name == PER_HYPOTHESIS else 4
            entry.lists = min(ours, max(least, int(share / took)))
        return ours, alone

    def run(self, case, say):
        options, rates = self.options, self.rates()
        peers = self.peers()
        lists, alone = self.choose(peers, rates)
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.records[:lists]), encoding="utf-8")
        modes, entries, refused, facts = {}, dict(peers), [], {}
        exact = None
        for mode, flags in self.modes().items():
            try:
                scores = self.program.rescored(self.model, self.path, flags)
            except Refused as error:
                if not flags:
                    raise SystemExit(f"{case}: {error}") from error
                refused.append(f"{mode}: not run ({error})")
                continue
            exact = exact or scores
            modes[mode] = (flags, scores)
            entries[mode] = Entry(None, "secondpass fast" if flags else "secondpass")
            entries[mode].lists = lists
        entries[ALONE] = Entry(None, "secondpass")
        entries[ALONE].lists = alone
        fast = {}
        for round_ in range(options.rounds):
            if round_:
                rates = [max(pair) for pair in zip(rates, self.rates())]
            for name, entry in peers.items():
                begun = time.perf_counter()
                scores = entry.engine.score(self.tokens(entry.lists))
                entry.seconds.append(time.perf_counter() - begun)
                if entry.kind == "peer":
                    self.agree(name, entry, scores, exact)
                elif models.trained(self.name):
                    fast[name] = self.changes(exact, scores)
            for mode, (flags, _) in modes.items():
                facts[mode] = self.program.bench(self.model, self.path, 0, 0, 1 if flags else alone, flags)
                entries[mode].seconds.append(facts[mode]["throughput"]["seconds"])
                if not flags:
                    entries[ALONE].seconds.append(facts[mode]["latency_ms"]["total"] / 1e3)
        if models.trained(self.name):
            fast |= {mode: self.changes(exact, scores) for mode, (flags, scores) in modes.items() if flags}
        return self.report(case, entries, rates, facts, fast, refused, say)

    def agree(self, name, entry, scores, exact):
        worst = max(abs(a - b) for ours, theirs in zip(exact, scores) for (a, _), b in zip(ours, theirs))
        entry.differs = max(worst, entry.differs or 0.0)
        if not worst <= TOLERANCE:
            raise SystemExit(f"{self.name}: {name} and secondpass differ by {worst}: not the same model, nothing is timed")

    def changes(self, exact, fast):
        """Scores that are not exact beside those that are."""
        records = self.records[: len(fast)]

        def ordered(scores, record):
            if isinstance(scores[0], tuple):  # the program's own order
                return [score for score, _ in scores], sorted(range(len(scores)), key=lambda at: scores[at][1])
            return scores, accuracy.ranked(scores, [hyp["score"] for hyp in record["hyps"]], self.options.weight)

        exact, fast = ([ordered(*pair) for pair in zip(part, records)] for part in (exact, fast))
        texts = [[hyp["text"] for hyp in record["hyps"]] for record in records]
        return accuracy.differences(exact, fast, [record.get("ref") for record in records], texts)

    def report(self, case, entries, rates, facts, fast, refused, say):
        (rate, library), (rate_one, _) = rates
        lists = entries[OURS].lists
        raw, distinct = self.raw(lists), self.distinct(lists)
        across = len(set().union(*(histories(hypotheses) for hypotheses in self.tokens(lists))))
        ours = facts[OURS]
        token = lambda entry: statistics.median(entry.seconds) / self.raw(entry.lists)
        out = {}
        for name, entry in entries.items():
            seconds = statistics.median(entry.seconds)
            base = self.distinct(entry.lists) * self.operations
            out[name] = {
                "kind": entry.kind, "lists": entry.lists, "raw_tokens": self.raw(entry.lists), "seconds": entry.seconds,
                "times_floor": seconds * rate / base, "times_floor_one_core": seconds * rate_one / base,
                "times_secondpass": token(entry) / token(entries[OURS]), "largest_difference": entry.differs,
                "rows": getattr(entry.engine, "rows", None),
            }
        say(f"\n### {case}\n")
        say(f"{lists} lists, {raw} tokens, {distinct} distinct histories ({raw / distinct:.2f} times each; {across} distinct over all "
            f"lists); {self.operations / 1e6:.1f} MFLOP a history; best product {rate / 1e9:.0f} GFLOP/s ({library}, {self.options.threads} "
            f"threads), {rate_one / 1e9:.0f} on one. secondpass fed {ours['models']['rnnlm']['histories']} histories; peak memory "
            f"{ours['peak_memory_bytes'] / 2**20:.0f} MiB, bound {ours['memory_bound_bytes'] / 2**20:.0f} MiB.\n")
        say("| engine | lists | seconds (range) | times the floor | times secondpass | largest difference |")
        say("|---|---|---|---|---|---|")
        for name, facts_ in out.items():
            spread = f"{min(facts_['seconds']):.2f}-{max(facts_['seconds']):.2f}"
            rows = f", {facts_['rows']} rows" if (facts_["rows"] or 1) > 1 else ""
            over = f"{facts_['times_floor']:.2f}"
            if name == ALONE:
                over += f" ({facts_['times_floor_one_core']:.2f} of one core's)"
            differs = "" if facts_["largest_difference"] is None else f"{facts_['largest_difference']:.1e}"
            say(f"| {name}{rows} | {facts_['lists']} | {statistics.median(facts_['seconds']):.2f} ({spread}) | {over} "
                f"| {facts_['times_secondpass']:.2f} | {differs} |")
        exact_peers = [facts_["times_secondpass"] for facts_ in out.values() if facts_["kind"] == "peer"]
        int8_peers = [facts_["times_secondpass"] for facts_ in out.values() if facts_["kind"] == "peer int8"]
        if exact_peers:
            say(f"\nThe fastest exact peer takes {min(exact_peers):.2f} times as long as secondpass, per token of its lists.")
        for name, facts_ in out.items():
            if facts_["kind"] == "secondpass fast":
                said = [f"{min(each) / facts_['times_secondpass']:.1f} times quicker than the fastest {kind}"
                        for kind, each in (("exact peer", exact_peers), ("int8 peer", int8_peers)) if each]
                say(f"{name}: {', '.join(said)}.")
        if fast:
            say("\n| beside exact scores | lists | scored | largest difference | mean | same winner | lists reordered | WER (exact) |")
            say("|---|---|---|---|---|---|---|---|")
        for name, change in fast.items():
            wer = "" if change["wer"] is None else f"{100 * change['wer']:.3f} ({100 * change['wer_exact']:.3f})"
            say(f"| {name} | {change['lists']} | {change['scored']:.1%} | {change['largest_difference']:.2g} | {change['mean_difference']:.2g} "
                f"| {change['same_winner']:.2%} | {change['lists_reordered']:.1%} | {wer} |")
        for line in refused:
            say(f"\n{line}")
        return {
            "model": str(self.model), "hypotheses": self.hypotheses, "lists": lists, "raw_tokens": raw, "distinct_histories": distinct,
            "distinct_over_all_lists": across, "flop_per_history": self.operations, "flop_per_s": rate, "flop_per_s_one_core": rate_one,
            "product_by": library, "floor": distinct * self.operations / rate, "engines": out, "bench": facts, "changes": fast,
            "not_run": refused,
        }


def histories(hypotheses):
    return {tuple(ids[:n]) for ids in hypotheses for n in range(len(ids) + 1)}
