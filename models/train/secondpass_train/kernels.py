"""The costly parts of a training step, with their gradients written out.

Autograd over a Python time loop keeps dozens of small nodes per step. Written by hand, a
step costs one matrix product forward and one backward, and the gradient of the
recurrent matrix is a single product at the end.

Matrix products run in `precision` (float32 or bfloat16); everything between them in float32.
"""

import torch
from torch.autograd.function import once_differentiable


def recurrence(inputs, recurrent, hidden, cell, keep, precision=None):
    """Runs an LSTM over time.

    `inputs`    [T, N, 4H] the input's share of the gates, bias included, in ONNX's order i, o, f, c
    `recurrent` [4H, H]    the recurrent matrix, rows in the same order
    `hidden`, `cell` [N, H] the state before the first step
    `keep`      [T, N, 1]  0 where a sentence begins (its state is zeros), else 1

    Gives all hidden vectors [T, N, H] and the state after the last step.
    """
    return _Recurrence.apply(inputs, recurrent, hidden, cell, keep, precision or inputs.dtype)


def cross_entropy(hidden, matrix, bias, targets, precision=None):
    """The mean of -ln p(target) under softmax(hidden @ matrix.T + bias), in nats.

    The logits of all rows at once would be the largest tensor by far; they are made, used
    for both loss and gradient, and forgotten in blocks of rows.
    """
    return _CrossEntropy.apply(hidden, matrix, bias, targets, precision or hidden.dtype)


def sampled_cross_entropy(hidden, matrix, bias, targets, samples, log_expected, precision=None):
    """As `cross_entropy`, against `samples` [K] instead of the whole vocabulary (Jean et al. 2015).

    `log_expected` [V] is ln of how often each id is expected among the samples: logits are corrected
    by it, so that the loss goes to that of the full softmax as K grows. A sample that is a row's
    target does not count for that row. It is no bound on the perplexity: train on with the full
    softmax at the end.
    """
    precision = precision or hidden.dtype
    wanted = (hidden * matrix[targets]).sum(dim=1) + bias[targets] - log_expected[targets]
    others = (hidden.to(precision) @ matrix[samples].to(precision).t()).to(hidden.dtype)
    others = others + (bias[samples] - log_expected[samples])
    others = others.masked_fill(targets.unsqueeze(1) == samples.unsqueeze(0), float("-inf"))
    return (torch.logsumexp(torch.cat([wanted.unsqueeze(1), others], dim=1), dim=1) - wanted).mean()


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, recurrent, hidden, cell, keep, precision):
        steps, rows, width = inputs.shape
        size = width // 4
        transposed = recurrent.to(precision).t()
        gates = inputs.clone()
        hiddens = inputs.new_empty(steps, rows, size)
        cells_before = inputs.new_empty(steps, rows, size)
        hiddens_before = inputs.new_empty(steps, rows, size)
        tanh_cells = inputs.new_empty(steps, rows, size)
        for step in range(steps):
            hidden = torch.mul(hidden, keep[step], out=hiddens_before[step])
            before = torch.mul(cell, keep[step], out=cells_before[step])
            gate = _add_product(gates[step], hidden, transposed)
            gate[:, : 3 * size].sigmoid_()
            gate[:, 3 * size :].tanh_()
            i, o, f, c = gate.split(size, dim=1)
            cell = torch.addcmul(f * before, i, c)
            tanh_cell = torch.tanh(cell, out=tanh_cells[step])
            hidden = torch.mul(o, tanh_cell, out=hiddens[step])
        ctx.precision = precision
        ctx.save_for_backward(recurrent, keep, gates, cells_before, hiddens_before, tanh_cells)
        return hiddens, hidden.clone(), cell

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hiddens, grad_hidden, grad_cell):
        recurrent, keep, gates, cells_before, hiddens_before, tanh_cells = ctx.saved_tensors
        steps, rows, width = gates.shape
        size = width // 4
        matrix = recurrent.to(ctx.precision)
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
            grad_hidden = torch.mm(grad.to(ctx.precision), matrix).to(grad.dtype).mul_(keep[step])
        grad_recurrent = torch.mm(
            grad_gates.view(steps * rows, width).t().to(ctx.precision),
            hiddens_before.view(steps * rows, size).to(ctx.precision),
        ).to(recurrent.dtype)
        return grad_gates, grad_recurrent, grad_hidden, grad_cell, None, None


class _CrossEntropy(torch.autograd.Function):
    # Numbers of a block of logits: small enough for a processor's cache, large enough to fill a GPU.
    CPU_BLOCK, CUDA_BLOCK = 1 << 21, 1 << 28

    @staticmethod
    def forward(ctx, hidden, matrix, bias, targets, precision):
        rows = hidden.shape[0]
        grad_hidden = torch.empty_like(hidden)
        grad_matrix = torch.zeros_like(matrix)
        grad_bias = torch.zeros_like(bias)
        multiplied = matrix.to(precision)
        transposed = multiplied.t()
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        block_size = _CrossEntropy.CUDA_BLOCK if hidden.is_cuda else _CrossEntropy.CPU_BLOCK
        block_rows = max(1, block_size // matrix.shape[0])
        for start in range(0, rows, block_rows):
            part = slice(start, start + block_rows)
            block = hidden[part].to(precision)
            wanted = targets[part].unsqueeze(1)
            # In place once it is float32: this is the largest tensor of the whole step.
            logits = torch.mm(block, transposed).to(hidden.dtype).add_(bias)
            # One exponential a logit. What is less likely than the smallest float counts as that in the
            # loss; its gradient is exact all the same.
            grad = torch.softmax(logits, dim=1)
            likely = grad.gather(1, wanted)
            loss -= likely.clamp_min_(torch.finfo(grad.dtype).tiny).double().log_().sum()
            grad.scatter_add_(1, wanted, grad.new_full(wanted.shape, -1.0))
            grad_bias.add_(grad.sum(0))
            grad = grad.to(precision)
            grad_hidden[part] = torch.mm(grad, multiplied)
            if precision == hidden.dtype:
                grad_matrix.addmm_(grad.t(), block)
            else:
                grad_matrix.add_(torch.mm(grad.t(), block))
        ctx.save_for_backward(grad_hidden, grad_matrix, grad_bias)
        ctx.rows = rows
        return (loss / rows).to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad_hidden, grad_matrix, grad_bias = ctx.saved_tensors
        grad = grad / ctx.rows
        return grad_hidden * grad, grad_matrix * grad, grad_bias * grad, None, None


def _add_product(target, left, right):
    if left.dtype == right.dtype:
        return target.addmm_(left, right)
    return target.add_(torch.mm(left.to(right.dtype), right))
