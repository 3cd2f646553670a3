"""Every model in plain numpy, float64, one token at a time: what every other evaluation is held against.

Written from the papers' formulas, not from the PyTorch module.
"""

import numpy

from .weights import Layer, Weights


def log_probabilities(weights: Weights, ids: list[int], bos: int) -> list[float]:
    """ln p of each id (the last is `</s>`) given those before it; the state starts at zeros and reads `<s>`."""
    wide = _float64(weights)
    step = _window(wide) if wide.cell == "feedforward" else _stack(wide)
    output = wide.embedding if wide.output_matrix is None else wide.output_matrix
    result = []
    for read, wanted in zip([bos, *ids[:-1]], ids):
        logits = output @ step(wide.embedding[read]) + wide.output_bias
        top = logits.max()
        result.append(float(logits[wanted] - top - numpy.log(numpy.exp(logits - top).sum())))
    return result


def _stack(wide: Weights):
    hidden = [numpy.zeros(wide.hidden) for _ in wide.layers]
    cell = [numpy.zeros(wide.hidden) for _ in wide.layers]

    def step(flow):
        for index, layer in enumerate(wide.layers):
            hidden[index], cell[index] = _CELLS[wide.cell](layer, flow, hidden[index], cell[index])
            flow = hidden[index]
        return flow

    return step


def _window(wide: Weights):
    past = [numpy.zeros(wide.embedding.shape[1])] * (wide.order - 1)

    def step(flow):
        past.append(flow)
        del past[0]
        flow = numpy.concatenate(past)
        for layer in wide.layers:
            flow = numpy.tanh(layer.input_matrix @ flow + layer.bias)
        return flow

    return step


def _rnn(layer, x, h, c):
    return numpy.tanh(layer.input_matrix @ x + layer.recurrent_matrix @ h + layer.bias), c


def _lstm_1997(layer, x, h, c):
    i, o, g = numpy.split(layer.input_matrix @ x + layer.recurrent_matrix @ h + layer.bias, 3)
    c = c + _sigmoid(i) * numpy.tanh(g)
    return _sigmoid(o) * numpy.tanh(c), c


def _lstm(layer, x, h, c):
    i, o, f, g = numpy.split(layer.input_matrix @ x + layer.recurrent_matrix @ h + layer.bias, 4)
    c = _sigmoid(f) * c + _sigmoid(i) * numpy.tanh(g)
    return _sigmoid(o) * numpy.tanh(c), c


def _lstm_peephole(layer, x, h, c):
    i, o, f, g = numpy.split(layer.input_matrix @ x + layer.recurrent_matrix @ h + layer.bias, 4)
    peep_i, peep_o, peep_f = numpy.split(layer.extra, 3)
    after = _sigmoid(f + peep_f * c) * c + _sigmoid(i + peep_i * c) * numpy.tanh(g)
    return _sigmoid(o + peep_o * after) * numpy.tanh(after), after


def _gru(layer, x, h, c):
    z, r, n = numpy.split(layer.input_matrix @ x + layer.bias, 3)
    hz, hr, hn = numpy.split(layer.recurrent_matrix @ h, 3)
    z = _sigmoid(z + hz)
    n = numpy.tanh(n + _sigmoid(r + hr) * (hn + layer.extra))
    return (1 - z) * n + z * h, c


def _gru_reset_before(layer, x, h, c):
    z, r, n = numpy.split(layer.input_matrix @ x + layer.bias, 3)
    to_z, to_r, to_n = numpy.split(layer.recurrent_matrix, 3)
    z = _sigmoid(z + to_z @ h)
    n = numpy.tanh(n + to_n @ (_sigmoid(r + to_r @ h) * h))
    return (1 - z) * n + z * h, c


_CELLS = {
    "rnn": _rnn,
    "lstm-1997": _lstm_1997,
    "lstm": _lstm,
    "lstm-peephole": _lstm_peephole,
    "gru": _gru,
    "gru-reset-before": _gru_reset_before,
}


def _sigmoid(values):
    return 1.0 / (1.0 + numpy.exp(-values))


def _float64(weights: Weights) -> Weights:
    # Through float32 first: that is what the file holds.
    def wide(values):
        return None if values is None else values.astype(numpy.float32).astype(numpy.float64)

    layers = [
        Layer(wide(layer.input_matrix), wide(layer.recurrent_matrix), wide(layer.bias), wide(layer.extra))
        for layer in weights.layers
    ]
    return Weights(
        wide(weights.embedding), layers, wide(weights.output_bias), wide(weights.output_matrix), weights.cell, weights.order
    )
