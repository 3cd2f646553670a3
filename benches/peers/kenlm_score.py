"""KenLM's Python module on the same model and text as `benches/compact.rs`: python3 kenlm_score.py MODEL TEXT [ROUNDS]

Needs `pip install kenlm`. Prints nanoseconds of processor time for each token, `</s>` included; the
module splits the text and finds the words' ids, too.
"""

import sys
import time

import kenlm

rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
model = kenlm.Model(sys.argv[1])
with open(sys.argv[2], encoding="utf-8", errors="surrogateescape") as text:
    lines = [line.rstrip("\n") for line in text]
tokens = sum(len(line.split()) + 1 for line in lines)
times = []
for _ in range(rounds):
    began = time.process_time()
    total = sum(model.score(line) for line in lines)
    times.append(time.process_time() - began)
print(f"{min(times) / tokens * 1e9:.0f} ns/token of {tokens} (the best of {len(times)}), total {total:.3f}")
