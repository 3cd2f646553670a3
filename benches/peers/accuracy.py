"""What a fast mode changes: scores, ranks, winners, words."""


def differences(exact, fast, references, texts):
    """`exact` and `fast`: by list, the model's scores in first-pass order (None where one was not
    computed) and the order that came out, best first, as places in the first pass.
    """
    worst, total, compared, same, reordered, errors, errors_exact, words = 0.0, 0.0, 0, 0, 0, 0, 0, 0
    for (ours, order), (theirs, order_fast), reference, hyps in zip(exact, fast, references, texts):
        both = [(a, b) for a, b in zip(ours, theirs) if a is not None and b is not None]
        worst = max([worst, *(abs(a - b) for a, b in both)])
        total += sum(abs(a - b) for a, b in both)
        compared += len(both)
        same += hyps[order[0]] == hyps[order_fast[0]]
        reordered += order != order_fast
        if reference is not None:
            words += len(reference.split())
            errors += edits(hyps[order_fast[0]].split(), reference.split())
            errors_exact += edits(hyps[order[0]].split(), reference.split())
    lists = len(exact)
    return {
        "lists": lists, "largest_difference": worst, "mean_difference": total / max(compared, 1),
        "scored": compared / max(sum(map(len, texts)), 1), "same_winner": same / lists,
        "lists_reordered": reordered / lists, "wer": errors / words if words else None,
        "wer_exact": errors_exact / words if words else None,
    }


def ranked(scores, first_pass, weight):
    """The order of first-pass score + weight x model score."""
    total = [base + weight * score for score, base in zip(scores, first_pass)]
    return sorted(range(len(total)), key=lambda at: (-total[at], at))


def edits(ours, reference):
    row = list(range(len(reference) + 1))
    for i, word in enumerate(ours, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(reference, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
