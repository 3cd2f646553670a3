"""The LSTM in plain numpy, float64, one token at a time: what every other evaluation is held against."""

import numpy

from .onnx_graph import Weights


def log_probabilities(weights: Weights, ids: list[int], bos: int) -> list[float]:
    """ln p of each id (the last is `</s>`) given those before it; the state starts at zeros and reads `<s>`."""
    wide = _float64(weights)
    hidden = [numpy.zeros(weights.hidden) for _ in wide.layers]
    cell = [numpy.zeros(weights.hidden) for _ in wide.layers]
    output = wide.embedding if wide.output_matrix is None else wide.output_matrix
    result = []
    for read, wanted in zip([bos, *ids[:-1]], ids):
        flow = wide.embedding[read]
        for index, layer in enumerate(wide.layers):
            gates = layer.input_matrix @ flow + layer.recurrent_matrix @ hidden[index] + layer.bias
            enter, leave, forget, candidate = numpy.split(gates, 4)
            cell[index] = _sigmoid(forget) * cell[index] + _sigmoid(enter) * numpy.tanh(candidate)
            hidden[index] = _sigmoid(leave) * numpy.tanh(cell[index])
            flow = hidden[index]
        logits = output @ flow + wide.output_bias
        top = logits.max()
        result.append(float(logits[wanted] - top - numpy.log(numpy.exp(logits - top).sum())))
    return result


def _sigmoid(values):
    return 1.0 / (1.0 + numpy.exp(-values))


def _float64(weights: Weights) -> Weights:
    # Through float32 first: that is what the file holds.
    def wide(values):
        return None if values is None else values.astype(numpy.float32).astype(numpy.float64)

    layers = [type(layer)(wide(layer.input_matrix), wide(layer.recurrent_matrix), wide(layer.bias)) for layer in weights.layers]
    return Weights(wide(weights.embedding), layers, wide(weights.output_bias), wide(weights.output_matrix))
