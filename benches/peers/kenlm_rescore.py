"""What a script does with KenLM's module: kenlm_rescore.py MODEL WEIGHT LISTS OUT"""

import json
import math
import sys

import kenlm

model, weight, lists, out = kenlm.Model(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
with open(lists, encoding="utf-8") as lines, open(out, "w", encoding="utf-8") as answers:
    for line in lines:
        record = json.loads(line)
        for rank, hyp in enumerate(record["hyps"], 1):
            score = model.score(hyp["text"]) * math.log(10)
            hyp["scores"] = {"ngram": score, "total": hyp["score"] + weight * score}
            hyp["rank"] = rank
        record["hyps"].sort(key=lambda hyp: -hyp["scores"]["total"])
        answers.write(json.dumps(record, ensure_ascii=False) + "\n")
