"""The language model: embedding, LSTM layers, and an output layer that shares the embedding's matrix."""

from dataclasses import asdict, dataclass

import torch
from torch import nn

from . import kernels


@dataclass(frozen=True)
class Shape:
    vocabulary: int
    hidden: int
    layers: int

    def as_dict(self) -> dict:
        return asdict(self)


class LanguageModel(nn.Module):
    """Gate rows are kept in ONNX's order i, o, f, c, so that exporting permutes nothing."""

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        width = 4 * shape.hidden
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.hidden))
        self.output_bias = nn.Parameter(torch.zeros(shape.vocabulary))
        self.input_matrices = _matrices(shape.layers, width, shape.hidden)
        self.recurrent_matrices = _matrices(shape.layers, width, shape.hidden)
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(shape.layers))
        self._initialise()

    def start(self, rows: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The state before a sentence: zeros."""
        return [
            (self.embedding.new_zeros(rows, self.shape.hidden), self.embedding.new_zeros(rows, self.shape.hidden))
            for _ in range(self.shape.layers)
        ]

    def hiddens(self, tokens, state, keep):
        """Last layer's hidden vectors [T, N, H] for tokens [T, N], and the new state."""
        steps, rows = tokens.shape
        flow = nn.functional.embedding(tokens, self.embedding)
        after = []
        for layer in range(self.shape.layers):
            flow = nn.functional.dropout(flow, self.dropout, self.training)
            inputs = torch.addmm(
                self.biases[layer], flow.reshape(steps * rows, -1), self.input_matrices[layer].t()
            ).view(steps, rows, -1)
            flow, hidden, cell = kernels.recurrence(inputs, self.recurrent_matrices[layer], *state[layer], keep)
            after.append((hidden, cell))
        return nn.functional.dropout(flow, self.dropout, self.training), after

    def loss(self, tokens, targets, state, keep):
        """Mean cross entropy in nats per token, and the state to carry on with (no gradient)."""
        hiddens, after = self.hiddens(tokens, state, keep)
        loss = kernels.cross_entropy(
            hiddens.reshape(-1, self.shape.hidden), self.embedding, self.output_bias, targets.reshape(-1)
        )
        return loss, [(hidden.detach(), cell.detach()) for hidden, cell in after]

    def forward(self, tokens, hidden, cell):
        """The exported function: tokens [N, L], state [layers, N, H] -> log_probs [N, L, V] and the next state."""
        keep = hidden.new_ones(tokens.shape[1], tokens.shape[0], 1)
        state = [(hidden[layer], cell[layer]) for layer in range(self.shape.layers)]
        hiddens, after = self.hiddens(tokens.t(), state, keep)
        logits = hiddens.transpose(0, 1) @ self.embedding.t() + self.output_bias
        return (
            torch.log_softmax(logits, dim=-1),
            torch.stack([hidden for hidden, _ in after]),
            torch.stack([cell for _, cell in after]),
        )

    def _initialise(self) -> None:
        scale = self.shape.hidden**-0.5
        # Small, because the same matrix makes the logits: they should start near zero.
        nn.init.normal_(self.embedding, std=0.1 * min(1.0, 16 * scale))
        for matrix in (*self.input_matrices, *self.recurrent_matrices):
            nn.init.uniform_(matrix, -scale, scale)
        with torch.no_grad():
            for bias in self.biases:
                # Forget gates start open, so that gradients reach back from the first step on.
                bias[2 * self.shape.hidden : 3 * self.shape.hidden] = 1.0


def _matrices(count: int, rows: int, columns: int) -> nn.ParameterList:
    return nn.ParameterList(torch.empty(rows, columns) for _ in range(count))
