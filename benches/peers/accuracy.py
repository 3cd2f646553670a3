"""What a fast mode changes: scores, ranks, winners, words."""


def differences(exact, fast, references, texts, weight, first_pass):
    """`exact` and `fast` are model scores by list in first-pass order, None where one was not computed.

    A list's winner has the largest first-pass score + weight x model score; one without a score does
    not win: it was left out because it could not.
    """
    worst, total, compared, same, reordered, errors, errors_exact, words = 0.0, 0.0, 0, 0, 0, 0, 0, 0
    for ours, theirs, reference, hyps, scores in zip(exact, fast, references, texts, first_pass):
        both = [(a, b) for a, b in zip(ours, theirs) if a is not None and b is not None]
        worst = max([worst, *(abs(a - b) for a, b in both)])
        total += sum(abs(a - b) for a, b in both)
        compared += len(both)
        order, order_fast = ranked(ours, scores, weight), ranked(theirs, scores, weight)
        same += hyps[order[0]] == hyps[order_fast[0]]
        reordered += order != order_fast
        if reference is not None:
            words += len(reference.split())
            errors += edits(hyps[order_fast[0]].split(), reference.split())
            errors_exact += edits(hyps[order[0]].split(), reference.split())
    lists = len(exact)
    return {
        "lists": lists, "largest_difference": worst, "mean_difference": total / max(compared, 1),
        "scored": compared / max(sum(map(len, exact)), 1), "same_winner": same / lists,
        "lists_reordered": reordered / lists, "wer": errors / words if words else None,
        "wer_exact": errors_exact / words if words else None,
    }


def ranked(scores, first_pass, weight):
    lowest = float("-inf")
    total = [lowest if score is None else base + weight * score for score, base in zip(scores, first_pass)]
    return sorted(range(len(total)), key=lambda at: (-total[at], at))


def edits(ours, reference):
    row = list(range(len(reference) + 1))
    for i, word in enumerate(ours, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(reference, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
