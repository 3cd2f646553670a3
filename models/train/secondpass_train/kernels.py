"""The two costly parts of a training step, with their gradients written out.

Autograd over a Python time loop keeps dozens of small nodes per step. Written by hand, a
step costs one matrix product forward and one backward, and the gradient of the
recurrent matrix is a single product at the end.
"""

import torch
from torch.autograd.function import once_differentiable


def recurrence(inputs, recurrent, hidden, cell, keep):
    """Runs an LSTM over time.

    `inputs`    [T, N, 4H] the input's share of the gates, bias included, in ONNX's order i, o, f, c
    `recurrent` [4H, H]    the recurrent matrix, rows in the same order
    `hidden`, `cell` [N, H] the state before the first step
    `keep`      [T, N, 1]  0 where a sentence begins (its state is zeros), else 1

    Gives all hidden vectors [T, N, H] and the state after the last step.
    """
    return _Recurrence.apply(inputs, recurrent, hidden, cell, keep)


def cross_entropy(hidden, matrix, bias, targets):
    """The mean of -ln p(target) under softmax(hidden @ matrix.T + bias), in nats.

    The logits of all rows at once would be the largest tensor by far; they are made, used
    for both loss and gradient, and forgotten in blocks of rows.
    """
    return _CrossEntropy.apply(hidden, matrix, bias, targets)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, recurrent, hidden, cell, keep):
        steps, rows, width = inputs.shape
        size = width // 4
        transposed = recurrent.t()
        gates = inputs.clone()
        hiddens = inputs.new_empty(steps, rows, size)
        cells_before = inputs.new_empty(steps, rows, size)
        hiddens_before = inputs.new_empty(steps, rows, size)
        tanh_cells = inputs.new_empty(steps, rows, size)
        for step in range(steps):
            hidden = torch.mul(hidden, keep[step], out=hiddens_before[step])
            before = torch.mul(cell, keep[step], out=cells_before[step])
            gate = gates[step].addmm_(hidden, transposed)
            gate[:, : 3 * size].sigmoid_()
            gate[:, 3 * size :].tanh_()
            i, o, f, c = gate.split(size, dim=1)
            cell = torch.addcmul(f * before, i, c)
            tanh_cell = torch.tanh(cell, out=tanh_cells[step])
            hidden = torch.mul(o, tanh_cell, out=hiddens[step])
        ctx.save_for_backward(recurrent, keep, gates, cells_before, hiddens_before, tanh_cells)
        return hiddens, hidden.clone(), cell

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hiddens, grad_hidden, grad_cell):
        recurrent, keep, gates, cells_before, hiddens_before, tanh_cells = ctx.saved_tensors
        steps, rows, width = gates.shape
        size = width // 4
        grad_gates = torch.empty_like(gates)
        for step in range(steps - 1, -1, -1):
            i, o, f, c = gates[step].split(size, dim=1)
            tanh_cell = tanh_cells[step]
            grad_hidden = grad_hidden + grad_hiddens[step]
            through = grad_hidden * o
            grad_cell = grad_cell + through - through * tanh_cell * tanh_cell
            grad = grad_gates[step]
            torch.mul(grad_cell, c, out=grad[:, :size])
            torch.mul(grad_hidden, tanh_cell, out=grad[:, size : 2 * size])
            torch.mul(grad_cell, cells_before[step], out=grad[:, 2 * size : 3 * size])
            torch.mul(grad_cell, i, out=grad[:, 3 * size :])
            sigmoids = gates[step][:, : 3 * size]
            grad[:, : 3 * size].mul_(sigmoids - sigmoids * sigmoids)
            grad[:, 3 * size :].mul_(1 - c * c)
            grad_cell = grad_cell * f * keep[step]
            grad_hidden = torch.mm(grad, recurrent).mul_(keep[step])
        grad_recurrent = torch.mm(
            grad_gates.view(steps * rows, width).t(), hiddens_before.view(steps * rows, size)
        )
        return grad_gates, grad_recurrent, grad_hidden, grad_cell, None


class _CrossEntropy(torch.autograd.Function):
    BLOCK = 512

    @staticmethod
    def forward(ctx, hidden, matrix, bias, targets):
        rows = hidden.shape[0]
        grad_hidden = torch.empty_like(hidden)
        grad_matrix = torch.zeros_like(matrix)
        grad_bias = torch.zeros_like(bias)
        transposed = matrix.t()
        loss = 0.0
        for start in range(0, rows, _CrossEntropy.BLOCK):
            block = hidden[start : start + _CrossEntropy.BLOCK]
            wanted = targets[start : start + _CrossEntropy.BLOCK].unsqueeze(1)
            logs = torch.log_softmax(torch.addmm(bias, block, transposed), dim=1)
            loss -= logs.gather(1, wanted).double().sum().item()
            grad = logs.exp_()
            grad.scatter_add_(1, wanted, grad.new_full(wanted.shape, -1.0))
            grad.mul_(1.0 / rows)
            torch.mm(grad, matrix, out=grad_hidden[start : start + _CrossEntropy.BLOCK])
            grad_matrix.addmm_(grad.t(), block)
            grad_bias.add_(grad.sum(0))
        ctx.save_for_backward(grad_hidden, grad_matrix, grad_bias)
        return hidden.new_tensor(loss / rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad_hidden, grad_matrix, grad_bias = ctx.saved_tensors
        return grad_hidden * grad, grad_matrix * grad, grad_bias * grad, None
