"""What KenLM's C++ takes for ids alone, inside its Python module: python3 kenlm_sampled.py MODEL TEXT [ROUNDS]

Needs `pip install kenlm` and Linux's `perf`, which samples the module while it scores a text
(`kenlm_score.py`). The share of the functions that go from ids to scores is what `cargo bench --bench ngram`
calls "side by side"; splitting text, finding words and Python itself are left out. For both ways of loading.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

# From ids and a state to a probability and a state; the name with "Sentence" only walks over the words.
SCORING = re.compile(r"::(ResumeScore|BaseScore|FullScore|ScoreExceptBackoff|ScoreSentence)\b")
PERIOD = 500_000  # nanoseconds

model, text = sys.argv[1:3]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
script = Path(__file__).with_name("kenlm_score.py")
with tempfile.TemporaryDirectory() as folder:
    for load in ("READ", "POPULATE_OR_READ"):
        samples = f"{folder}/{load}"
        record = ["perf", "record", "-q", "-e", "cpu-clock:u", "-c", str(PERIOD), "-o", samples]
        command = [sys.executable, str(script), model, text, str(rounds), load]
        told = subprocess.run([*record, *command], check=True, capture_output=True, text=True).stdout.strip()
        report = ["perf", "report", "-i", samples, "--stdio", "-q", "--no-children", "-F", "sample,symbol"]
        lines = subprocess.run(report, check=True, capture_output=True, text=True).stdout.splitlines()
        taken = sum(int(line.split()[0]) for line in lines if SCORING.search(line))
        tokens = int(re.search(r"of (\d+)", told).group(1))
        ids = taken * PERIOD / tokens / rounds
        print(f"{load}: ids {ids:.0f} ns a token on average (module from text, the best: {told})", flush=True)
