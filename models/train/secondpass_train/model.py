"""The language models: embedding, recurrent or feed-forward layers, and an output layer.

The output layer may share the embedding's matrix (Press and Wolf 2017; Inan et al. 2017).
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn

from . import kernels
from .cells import CELLS, recurrence

FEED_FORWARD = "feedforward"
KINDS = (*CELLS, FEED_FORWARD)


@dataclass(frozen=True)
class Shape:
    vocabulary: int
    hidden: int
    layers: int = 1
    cell: str = "lstm"
    embedding: int = 0  # 0: as `hidden`
    tied: bool = True
    order: int = 0  # feed-forward: tokens of context and the one predicted, as an n-gram counts

    def __post_init__(self):
        if self.cell not in KINDS:
            raise SystemExit(f"unknown cell {self.cell!r}: one of {', '.join(KINDS)}")
        if not self.embedding:
            object.__setattr__(self, "embedding", self.hidden)
        if self.tied and self.embedding != self.hidden:
            raise SystemExit("tied embeddings need an embedding as wide as the hidden layer: use --untied")
        if self.cell == FEED_FORWARD and self.order < 2:
            raise SystemExit("a feed-forward network needs an --order of 2 or more")

    @property
    def states(self) -> list[tuple[int, int]]:
        """The (first, last) sizes of each state tensor; the batch is between them."""
        if self.cell == FEED_FORWARD:
            return [(self.order - 2, self.embedding)] if self.order > 2 else []
        return [(self.layers, self.hidden)] * CELLS[self.cell].states

    def as_dict(self) -> dict:
        return asdict(self)


def make(shape: Shape, dropout: float = 0.0) -> "LanguageModel":
    return (FeedForward if shape.cell == FEED_FORWARD else Recurrent)(shape, dropout)


class LanguageModel(nn.Module):
    """What all have: an embedding, an output layer, and a function from tokens and state to hidden vectors.

    State tensors are [.., N, ..] as in the exported file, see `Shape.states`; zeros before a sentence.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        # What matrix products are computed in; all else is float32.
        self.precision: torch.dtype | None = None
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.embedding))
        self.output_bias = nn.Parameter(torch.zeros(shape.vocabulary))
        if not shape.tied:
            self.output_matrix = nn.Parameter(torch.empty(shape.vocabulary, shape.hidden))

    @property
    def projection(self) -> nn.Parameter:
        """The output layer's matrix [V, H]."""
        return self.embedding if self.shape.tied else self.output_matrix

    def start(self, rows: int) -> list[torch.Tensor]:
        """The state before a sentence: zeros."""
        return [self.embedding.new_zeros(first, rows, last) for first, last in self.shape.states]

    def hiddens(self, tokens, state, keep):
        """Hidden vectors [T, N, H] for tokens [T, N], and the new state; `keep` is 0 where a sentence begins."""
        raise NotImplementedError

    def loss(self, tokens, targets, state, keep, sampler=None):
        """Mean cross entropy in nats per token, and the state to carry on with (no gradient)."""
        hiddens, after = self.hiddens(tokens, state, keep)
        rows = hiddens.reshape(-1, self.shape.hidden)
        if sampler:
            loss = kernels.sampled_cross_entropy(
                rows, self.projection, self.output_bias, targets.reshape(-1), *sampler, self.precision
            )
        else:
            loss = kernels.cross_entropy(rows, self.projection, self.output_bias, targets.reshape(-1), self.precision)
        return loss, [part.detach() for part in after]

    def forward(self, tokens, *state):
        """The exported function: tokens [N, L] and state -> log_probs [N, L, V] and the next state."""
        keep = self.embedding.new_ones(tokens.shape[1], tokens.shape[0], 1)
        hiddens, after = self.hiddens(tokens.t(), list(state), keep)
        logits = hiddens.transpose(0, 1) @ self.projection.t() + self.output_bias
        return torch.log_softmax(logits, dim=-1), *after

    def _dropped(self, values):
        return nn.functional.dropout(values, self.dropout, self.training)

    def _affine(self, values, matrix, bias):
        """values [.., E] times matrix [R, E] transposed, plus bias: [.., R]."""
        rows = values.reshape(-1, values.shape[-1])
        if self.precision in (None, rows.dtype):
            product = torch.addmm(bias, rows, matrix.t())
        else:
            product = (rows.to(self.precision) @ matrix.to(self.precision).t()).to(rows.dtype) + bias
        return product.view(*values.shape[:-1], -1)

    def _initialise_ends(self) -> None:
        scale = self.shape.hidden**-0.5
        # Small, because the same matrix makes the logits: they should start near zero.
        nn.init.normal_(self.embedding, std=0.1 * min(1.0, 16 * scale))
        if not self.shape.tied:
            nn.init.normal_(self.output_matrix, std=0.1 * min(1.0, 16 * scale))


class Recurrent(LanguageModel):
    """Layers of one of `CELLS`; rows of the matrices in ONNX's order, so that exporting permutes nothing."""

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__(shape, dropout)
        self.cell = CELLS[shape.cell]
        rows, size, layers = self.cell.gates * shape.hidden, shape.hidden, range(shape.layers)
        self.input_matrices = nn.ParameterList(
            torch.empty(rows, size if layer else shape.embedding) for layer in layers
        )
        self.recurrent_matrices = nn.ParameterList(torch.empty(rows, size) for _ in layers)
        self.biases = nn.ParameterList(torch.zeros(rows) for _ in layers)
        if self.cell.extra:
            self.extras = nn.ParameterList(torch.zeros(self.cell.extra * size) for _ in layers)
        self._initialise()

    def hiddens(self, tokens, state, keep):
        flow, after = tokens, []
        for layer in range(self.shape.layers):
            inputs = self._inputs(layer, flow)
            flow, parts = self._recurrence(layer, inputs, [part[layer] for part in state], keep)
            after.append(parts)
        return self._dropped(flow), [torch.stack(parts) for parts in zip(*after)]

    def _inputs(self, layer, flow):
        matrix, bias = self.input_matrices[layer], self.biases[layer]
        if layer:
            return self._affine(self._dropped(flow), matrix, bias)
        if flow.is_cuda or (self.training and self.dropout):
            return self._affine(self._dropped(nn.functional.embedding(flow, self.embedding)), matrix, bias)
        # A batch has each token several times: each is multiplied once, forward and back.
        distinct, places = flow.unique(return_inverse=True)
        table = self._affine(nn.functional.embedding(distinct, self.embedding), matrix, bias)
        return nn.functional.embedding(places, table)

    def _recurrence(self, layer, inputs, state, keep):
        matrix = self.recurrent_matrices[layer]
        if self.shape.cell == "lstm":
            flow, *parts = kernels.recurrence(inputs, matrix, *state, keep, self.precision)
            return flow, parts
        extra = self.extras[layer] if self.cell.extra else None
        return recurrence(self.cell, inputs, matrix, extra, state, keep, self.precision or inputs.dtype)

    def _initialise(self) -> None:
        self._initialise_ends()
        scale, size, forget = self.shape.hidden**-0.5, self.shape.hidden, self.cell.open_gate
        for matrix in (*self.input_matrices, *self.recurrent_matrices):
            nn.init.uniform_(matrix, -scale, scale)
        if forget is not None:
            with torch.no_grad():
                for bias in self.biases:
                    # Forget gates start open, so that gradients reach back from the first step on.
                    bias[forget * size : (forget + 1) * size] = 1.0


class FeedForward(LanguageModel):
    """A neural n-gram model (Bengio et al. 2003): the last `order - 1` tokens, tanh layers, softmax.

    Places before `<s>` hold zero vectors. The state is the embeddings of the last `order - 2`
    tokens, oldest first.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__(shape, dropout)
        widths = [(shape.order - 1) * shape.embedding, *[shape.hidden] * (shape.layers - 1)]
        # The first matrix takes the embeddings side by side, oldest first.
        self.input_matrices = nn.ParameterList(torch.empty(shape.hidden, width) for width in widths)
        self.biases = nn.ParameterList(torch.zeros(shape.hidden) for _ in widths)
        self._initialise_ends()
        for matrix in self.input_matrices:
            nn.init.xavier_uniform_(matrix)

    def hiddens(self, tokens, state, keep):
        steps, past = len(tokens), self.shape.order - 2
        embedded = nn.functional.embedding(tokens, self.embedding)
        line = torch.cat([*state, embedded]) if past else embedded
        # The state has no sentence but the last one in it.
        kept = torch.cat([keep.new_ones(past, *keep.shape[1:]), keep]) if past else keep
        window, reach = [line[past:]], torch.ones_like(keep)
        for back in range(1, past + 1):
            reach = reach * kept[past - back + 1 : past - back + 1 + steps]
            window.insert(0, line[past - back : past - back + steps] * reach)
        flow = torch.cat(window, dim=-1)
        for matrix, bias in zip(self.input_matrices, self.biases):
            flow = torch.tanh(self._affine(self._dropped(flow), matrix, bias))
        return self._dropped(flow), self._after(line, kept, past)

    @staticmethod
    def _after(line, kept, past):
        if not past:
            return []
        last, reach = [line[-1]], torch.ones_like(kept[-1])
        for back in range(1, past):
            reach = reach * kept[-back]
            last.insert(0, line[-1 - back] * reach)
        return [torch.stack(last)]
