"""KenLM's Python module on the same model and text as `benches/compact.rs`: python3 kenlm_score.py MODEL TEXT [ROUNDS [LOAD]]

Needs `pip install kenlm`. Prints nanoseconds of processor time for each token, `</s>` included; the
module splits the text and finds the words' ids, too. LOAD is how the model comes into memory: READ (on huge
pages, the fastest) or the module's default, POPULATE_OR_READ, which maps the file.
"""

import sys
import time

import kenlm

rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
config = kenlm.Config()
if len(sys.argv) > 4:
    config.load_method = getattr(kenlm.LoadMethod, sys.argv[4])
model = kenlm.Model(sys.argv[1], config)
with open(sys.argv[2], encoding="utf-8", errors="surrogateescape") as text:
    lines = [line.rstrip("\n") for line in text]
tokens = sum(len(line.split()) + 1 for line in lines)
times = []
for _ in range(rounds):
    began = time.process_time()
    total = sum(model.score(line) for line in lines)
    times.append(time.process_time() - began)
print(f"{min(times) / tokens * 1e9:.0f} ns/token of {tokens} (the best of {len(times)}), total {total:.3f}")
