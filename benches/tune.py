#!/usr/bin/env python3
"""What `tune` costs: 1,000 utterances of 100 hypotheses with 6 features (five scores and the number of words), in one
thread, with all that it does by default: five folds, twenty starts, intervals, MBR on held-out lists, temperature
and calibration. Prints the processor time that the program took (asked: under 10 s).

    python3 benches/tune.py [PROGRAM] [LISTS_TO_KEEP.jsonl]
"""
import json
import os
import random
import resource
import subprocess
import sys
import tempfile

program = sys.argv[1] if len(sys.argv) > 1 else "target/release/secondpass"
draw = random.Random(1)
vocabulary = [f"w{number}" for number in range(3000)]


def utterance(number):
    """A reference, and texts that differ from it in up to six places and an added word; their scores know of it."""
    said = draw.choices(vocabulary, k=draw.randint(6, 34))
    places = [(draw.randrange(len(said)), draw.choices(vocabulary, k=3) + [None]) for _ in range(6)]
    scores = {}
    while len(scores) < 100:
        words = list(said)
        for place, others in places:
            if draw.random() < 0.5:
                words[place] = draw.choice(others)
        wrong = sum(a != b for a, b in zip(words, said))
        if draw.random() < 0.15:
            words.insert(draw.randrange(len(words)), draw.choice(vocabulary))
            wrong += 1
        text = " ".join(word for word in words if word)
        scores[text] = [-wrong * draw.uniform(0, 1.2) + draw.gauss(0, 3) - 2 * len(words) for _ in range(5)]
    hyps = [
        {"text": text, "score": round(values[0], 4), "scores": {name: round(v, 4) for name, v in zip("abcd", values[1:])}}
        for text, values in sorted(scores.items(), key=lambda item: -item[1][0])
    ]
    return {"id": f"u{number}", "session": f"s{number % 40}", "ref": " ".join(said), "hyps": hyps}


with tempfile.TemporaryDirectory() as folder:
    lists = sys.argv[2] if len(sys.argv) > 2 else os.path.join(folder, "lists.jsonl")
    with open(lists, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(utterance(number)) + "\n" for number in range(1000))
    tuned = os.path.join(folder, "tuned.toml")
    command = [program, "tune", "--no-models", "--features", "score,a,b,c,d", "--jobs", "1", "--quiet", "--write", tuned, lists]
    subprocess.run(command, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(tuned, encoding="utf-8") as file:
        text = file.read()
    assert "mbr_difference" in text and "[confidence]" in text, text
    print(f"1,000 lists of 100, 6 features: {used.ru_utime:.2f} s user, {used.ru_stime:.2f} s system")
