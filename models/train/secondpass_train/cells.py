"""The recurrent cells: one step of each, with its rows in ONNX's order.

`inputs` is the input's share of all gates, bias included; `recurrent` a function that multiplies by the
recurrent matrix; `extra` what a cell has besides (see `Cell.extra`). The first state is the output.

    rnn               Elman 1990; tanh
    lstm-1997         Hochreiter and Schmidhuber 1997: input and output gate, no forget gate
    lstm              Gers, Schmidhuber and Cummins 2000: with forget gate
    lstm-peephole     Gers and Schmidhuber 2000: the gates see the cell
    gru               Cho et al. 2014, reset gate applied after the recurrent product (cuDNN, PyTorch)
    gru-reset-before  the same, reset gate applied before the product (the paper's formula)
"""

from dataclasses import dataclass
from typing import Callable

import torch


@dataclass(frozen=True)
class Cell:
    gates: int  # blocks of rows in its matrices
    states: int  # state vectors
    step: Callable
    extra: int = 0  # further parameters: this many vectors of the hidden size
    open_gate: int | None = None  # the forget gate's block: it starts open
    blocks: tuple[int, ...] = ()  # where its blocks lie in ONNX's LSTM, for a cell that has fewer


def _rnn(inputs, recurrent, extra, state):
    return (torch.tanh(inputs + recurrent(state[0])),)


def _lstm_1997(inputs, recurrent, extra, state):
    hidden, cell = state
    i, o, c = (inputs + recurrent(hidden)).chunk(3, dim=1)
    cell = cell + torch.sigmoid(i) * torch.tanh(c)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _lstm(inputs, recurrent, extra, state):
    hidden, cell = state
    i, o, f, c = (inputs + recurrent(hidden)).chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(c)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _lstm_peephole(inputs, recurrent, extra, state):
    hidden, cell = state
    see_i, see_o, see_f = extra.chunk(3)
    i, o, f, c = (inputs + recurrent(hidden)).chunk(4, dim=1)
    after = torch.sigmoid(f + see_f * cell) * cell + torch.sigmoid(i + see_i * cell) * torch.tanh(c)
    # The output gate sees the cell as it is now.
    return torch.sigmoid(o + see_o * after) * torch.tanh(after), after


def _gru(inputs, recurrent, extra, state):
    (hidden,) = state
    from_z, from_r, from_h = recurrent(hidden).chunk(3, dim=1)
    z, r, h = inputs.chunk(3, dim=1)
    z = torch.sigmoid(z + from_z)
    candidate = torch.tanh(h + torch.sigmoid(r + from_r) * (from_h + extra))
    return ((1 - z) * candidate + z * hidden,)


def _gru_reset_before(inputs, recurrent, extra, state):
    (hidden,) = state
    size = hidden.shape[1]
    z, r, h = inputs.chunk(3, dim=1)
    from_z, from_r = recurrent(hidden, slice(0, 2 * size)).chunk(2, dim=1)
    z = torch.sigmoid(z + from_z)
    candidate = torch.tanh(h + recurrent(torch.sigmoid(r + from_r) * hidden, slice(2 * size, None)))
    return ((1 - z) * candidate + z * hidden,)


CELLS = {
    "rnn": Cell(1, 1, _rnn),
    "lstm-1997": Cell(3, 2, _lstm_1997, blocks=(0, 1, 3)),
    "lstm": Cell(4, 2, _lstm, open_gate=2),
    "lstm-peephole": Cell(4, 2, _lstm_peephole, extra=3, open_gate=2),
    "gru": Cell(3, 1, _gru, extra=1),
    "gru-reset-before": Cell(3, 1, _gru_reset_before),
}


def recurrence(cell: Cell, inputs, matrix, extra, state, keep, precision):
    """Runs a cell over time by autograd: all outputs [T, N, H] and the state after the last step.

    Shapes as in `kernels.recurrence`, which does the same for the LSTM faster.
    """
    transposed = matrix.to(precision).t()

    def recurrent(hidden, rows=slice(None)):
        return (hidden.to(precision) @ transposed[:, rows]).to(inputs.dtype)

    outputs = []
    for step in range(len(inputs)):
        state = tuple(part * keep[step] for part in state)
        state = cell.step(inputs[step], recurrent, extra, state)
        outputs.append(state[0])
    return torch.stack(outputs), state
