"""The peers: each scores all hypotheses of some utterances, given as ids between `<s>` and `</s>`."""

import numpy
import onnxruntime

# One call may give back so many numbers: [rows, length, vocabulary] of a long list at a large
# vocabulary is more than a machine has.
MOST = 64 << 20


class Onnx:
    def __init__(self, path, tokenizer, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        shapes = {value.name: value.shape for value in self.session.get_inputs()}
        self.state = {name: (shape[0], shape[2]) for name, shape in shapes.items() if name != "tokens"}
        self.vocabulary = self.session.get_outputs()[0].shape[2]
        self.bos, self.eos = tokenizer.bos, tokenizer.eos

    def batch(self, sentences):
        """ln p of each sentence, padded to the longest."""
        length = max(map(len, sentences)) + 1
        tokens = numpy.full((len(sentences), length), self.eos, dtype=numpy.int64)
        targets = numpy.full((len(sentences), length), self.eos, dtype=numpy.int64)
        tokens[:, 0] = self.bos
        for row, ids in enumerate(sentences):
            tokens[row, 1 : len(ids) + 1] = ids
            targets[row, : len(ids)] = ids
        feed = {name: numpy.zeros((a, len(sentences), b), numpy.float32) for name, (a, b) in self.state.items()}
        log_probs = self.session.run(["log_probs"], {"tokens": tokens, **feed})[0]
        return pick(log_probs, targets, sentences)

    def in_parts(self, sentences):
        rows = max(1, MOST // ((max(map(len, sentences)) + 1) * self.vocabulary))
        parts = [sentences[start : start + rows] for start in range(0, len(sentences), rows)]
        return [score for part in parts for score in self.batch(part)]


def pick(log_probs, targets, sentences):
    chosen = numpy.take_along_axis(log_probs, targets[:, :, None], axis=2)[:, :, 0].astype(numpy.float64)
    return [float(chosen[row, : len(ids) + 1].sum()) for row, ids in enumerate(sentences)]


class PerHypothesis(Onnx):
    """One hypothesis at a time, as sherpa-onnx does."""

    def score(self, utterances):
        return [[self.batch([ids])[0] for ids in hypotheses] for hypotheses in utterances]


class Padded(Onnx):
    """A list at a time, padded: everybody's script."""

    def score(self, utterances):
        return [self.in_parts(hypotheses) for hypotheses in utterances]


class Sorted(Onnx):
    """All hypotheses of many lists, sorted by length, 128 at a time."""

    def score(self, utterances):
        every = [(len(ids), u, h) for u, hypotheses in enumerate(utterances) for h, ids in enumerate(hypotheses)]
        every.sort()
        scores = [[0.0] * len(hypotheses) for hypotheses in utterances]
        for start in range(0, len(every), 128):
            part = every[start : start + 128]
            for (_, u, h), score in zip(part, self.in_parts([utterances[u][h] for _, u, h in part])):
                scores[u][h] = score
        return scores


class Torch:
    """PyTorch, eager, a padded list at a time."""

    def __init__(self, weights, tokenizer, threads):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        embedding, layers, bias = weights
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

    def score(self, utterances):
        scores = []
        for hypotheses in utterances:
            rows = max(1, MOST // ((max(map(len, hypotheses)) + 1) * self.vocabulary))
            parts = [hypotheses[start : start + rows] for start in range(0, len(hypotheses), rows)]
            scores.append([score for part in parts for score in self.batch(part)])
        return scores

    def batch(self, sentences):
        torch = self.torch
        length = max(map(len, sentences)) + 1
        tokens = torch.full((len(sentences), length), self.eos)
        targets = torch.full((len(sentences), length), self.eos)
        tokens[:, 0] = self.bos
        for row, ids in enumerate(sentences):
            tokens[row, 1 : len(ids) + 1] = torch.tensor(ids)
            targets[row, : len(ids)] = torch.tensor(ids)
        with torch.inference_mode():
            flow, _ = self.lstm(torch.nn.functional.embedding(tokens, self.embedding))
            log_probs = torch.log_softmax(flow @ self.embedding.t() + self.bias, dim=-1)
            chosen = log_probs.gather(2, targets[:, :, None])[:, :, 0].double()
        return [float(chosen[row, : len(ids) + 1].sum()) for row, ids in enumerate(sentences)]


def best_product_rate(threads: int) -> float:
    """The fastest f32 matrix product ONNX Runtime does here, in FLOP/s."""
    import time

    from onnx import TensorProto, helper

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    best = 0.0
    for m, k, n in ((128, 512, 2048), (256, 1024, 4096), (1024, 1024, 1024)):
        value = helper.make_tensor_value_info
        weight = numpy.random.rand(k, n).astype(numpy.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
            [value("x", TensorProto.FLOAT, [m, k])], [value("y", TensorProto.FLOAT, [m, n])],
            [helper.make_tensor("w", TensorProto.FLOAT, [k, n], weight.tobytes(), raw=True)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        feed = {"x": numpy.random.rand(m, k).astype(numpy.float32)}
        for _ in range(100):
            begun = time.perf_counter()
            session.run(None, feed)
            best = max(best, 2 * m * k * n / (time.perf_counter() - begun))
    return best
