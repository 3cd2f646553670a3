"""The peers: each scores all hypotheses of some utterances, given as ids between `<s>` and `</s>`."""

import threading
import time

import numpy
import onnxruntime

# One call may give back so many numbers: [rows, length, vocabulary] of a long list at a large
# vocabulary is more than a machine has.
MOST = 128 << 20
ROWS = (16, 32, 64, 128, 256)


class Engine:
    """Sentences in batches of `rows`, padded; `batch` is the engine's own."""

    rows = 1

    def in_parts(self, sentences):
        rows = max(1, min(self.rows, MOST // ((max(map(len, sentences)) + 1) * self.vocabulary)))
        parts = [sentences[start : start + rows] for start in range(0, len(sentences), rows)]
        return [score for part in parts for score in self.batch(part)]

    def score(self, utterances):
        return [self.in_parts(hypotheses) for hypotheses in utterances]

    def tune(self, utterances):
        """Chooses the rows that are fastest here: peers get their best batch size."""
        longest = max(len(hypotheses) for hypotheses in utterances)
        best = None
        for rows in ROWS:
            self.rows = rows
            begun = time.perf_counter()
            self.score(utterances)
            took = time.perf_counter() - begun
            best = min(best or (took, rows), (took, rows))
            if rows >= longest and not isinstance(self, Sorted) or took > 1.5 * best[0]:
                break
        self.rows = best[1]


class Onnx(Engine):
    def __init__(self, path, tokenizer, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        shapes = {value.name: value.shape for value in self.session.get_inputs()}
        self.state = {name: (shape[0], shape[2]) for name, shape in shapes.items() if name != "tokens"}
        self.vocabulary = self.session.get_outputs()[0].shape[2]
        self.bos, self.eos = tokenizer.bos, tokenizer.eos

    def batch(self, sentences):
        """ln p of each sentence, padded to the longest."""
        tokens, targets = padded(sentences, self.bos, self.eos)
        feed = {name: numpy.zeros((a, len(sentences), b), numpy.float32) for name, (a, b) in self.state.items()}
        log_probs = self.session.run(["log_probs"], {"tokens": tokens, **feed})[0]
        chosen = numpy.take_along_axis(log_probs, targets[:, :, None], axis=2)[:, :, 0].astype(numpy.float64)
        return [float(chosen[row, : len(ids) + 1].sum()) for row, ids in enumerate(sentences)]


def padded(sentences, bos, eos):
    length = max(map(len, sentences)) + 1
    tokens = numpy.full((len(sentences), length), eos, dtype=numpy.int64)
    targets = numpy.full((len(sentences), length), eos, dtype=numpy.int64)
    tokens[:, 0] = bos
    for row, ids in enumerate(sentences):
        tokens[row, 1 : len(ids) + 1] = ids
        targets[row, : len(ids)] = ids
    return tokens, targets


class PerHypothesis(Onnx):
    """One hypothesis at a time, as sherpa-onnx does."""

    def tune(self, utterances):
        pass


class Padded(Onnx):
    """A list at a time, padded: everybody's script."""


class Sorted(Onnx):
    """All hypotheses of many lists, sorted by length."""

    def score(self, utterances):
        every = [(len(ids), u, h) for u, hypotheses in enumerate(utterances) for h, ids in enumerate(hypotheses)]
        every.sort()
        scores = [[0.0] * len(hypotheses) for hypotheses in utterances]
        for start in range(0, len(every), self.rows):
            part = every[start : start + self.rows]
            for (_, u, h), score in zip(part, self.in_parts([utterances[u][h] for _, u, h in part])):
                scores[u][h] = score
        return scores


class Sessions(Engine):
    """Padded lists on one session of one thread for each core: no core waits for another in an operator."""

    def __init__(self, path, tokenizer, threads):
        self.sessions = [Padded(path, tokenizer, 1) for _ in range(threads)]

    def tune(self, utterances):
        self.sessions[0].tune(utterances)
        for session in self.sessions:
            session.rows = self.sessions[0].rows
        self.rows = self.sessions[0].rows

    def score(self, utterances):
        scores, left = [None] * len(utterances), iter(range(len(utterances)))

        def work(session):
            # `next` of a range holds the interpreter's lock.
            for at in left:
                scores[at] = session.in_parts(utterances[at])

        threads = [threading.Thread(target=work, args=(session,)) for session in self.sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return scores


class Torch(Engine):
    """PyTorch, eager, a padded list at a time."""

    def __init__(self, weights, tokenizer, threads):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        embedding, output, layers, bias = weights
        hidden = layers[0][1].shape[1]
        self.vocabulary = len(embedding)
        self.bos, self.eos = tokenizer.bos, tokenizer.eos
        self.lstm = torch.nn.LSTM(embedding.shape[1], hidden, len(layers), batch_first=True)

        def gates(matrix):  # ONNX: i o f c; PyTorch: i f c o
            i, o, f, c = numpy.split(matrix, 4)
            return torch.from_numpy(numpy.concatenate([i, f, c, o]))

        with torch.no_grad():
            for index, (w, r, b) in enumerate(layers):
                getattr(self.lstm, f"weight_ih_l{index}").copy_(gates(w))
                getattr(self.lstm, f"weight_hh_l{index}").copy_(gates(r))
                half = len(b) // 2
                getattr(self.lstm, f"bias_ih_l{index}").copy_(gates(b[:half]))
                getattr(self.lstm, f"bias_hh_l{index}").copy_(gates(b[half:]))
        self.embedding, self.bias = torch.from_numpy(embedding.copy()), torch.from_numpy(bias.copy())
        self.output = self.embedding if output is embedding else torch.from_numpy(output.copy())

    def batch(self, sentences):
        torch = self.torch
        tokens, targets = (torch.from_numpy(part) for part in padded(sentences, self.bos, self.eos))
        with torch.inference_mode():
            flow, _ = self.lstm(torch.nn.functional.embedding(tokens, self.embedding))
            log_probs = torch.log_softmax(torch.nn.functional.linear(flow, self.output, self.bias), dim=-1)
            chosen = log_probs.gather(2, targets[:, :, None])[:, :, 0].double()
        return [float(chosen[row, : len(ids) + 1].sum()) for row, ids in enumerate(sentences)]
