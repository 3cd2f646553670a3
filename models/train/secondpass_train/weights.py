"""A model's weights as plain arrays, between PyTorch, ONNX and the float64 reference.

Rows of the matrices are in ONNX's order: LSTM i, o, f, c; GRU z, r, h.
"""

from dataclasses import dataclass

import numpy
import torch

from . import model
from .model import FEED_FORWARD, LanguageModel, Shape

STORAGES = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Layer:
    input_matrix: numpy.ndarray  # [G*H, E]; feed-forward: [H, places * E] or [H, H]
    recurrent_matrix: numpy.ndarray | None  # [G*H, H]
    bias: numpy.ndarray  # [G*H]
    extra: numpy.ndarray | None = None  # peepholes i, o, f [3H], or the bias inside a GRU's reset [H]


@dataclass(frozen=True)
class Weights:
    embedding: numpy.ndarray  # [V, E]
    layers: list[Layer]
    output_bias: numpy.ndarray  # [V]
    output_matrix: numpy.ndarray | None = None  # [V, H]; None: the embedding is used (then E = H)
    cell: str = "lstm"
    order: int = 0  # of a feed-forward network

    @property
    def vocabulary(self) -> int:
        return self.embedding.shape[0]

    @property
    def hidden(self) -> int:
        last = self.layers[-1]
        return len(last.input_matrix) if last.recurrent_matrix is None else last.recurrent_matrix.shape[1]

    @property
    def shape(self) -> Shape:
        return Shape(
            vocabulary=self.vocabulary,
            hidden=self.hidden,
            layers=len(self.layers),
            cell=self.cell,
            embedding=self.embedding.shape[1],
            tied=self.output_matrix is None,
            order=self.order,
        )


def of_model(trained: LanguageModel) -> Weights:
    def values(parameter):
        return parameter.detach().cpu().numpy()

    layers = []
    for index in range(trained.shape.layers):
        recurrent = extra = None
        if trained.shape.cell != FEED_FORWARD:
            recurrent = values(trained.recurrent_matrices[index])
            extra = values(trained.extras[index]) if trained.cell.extra else None
        layers.append(Layer(values(trained.input_matrices[index]), recurrent, values(trained.biases[index]), extra))
    return Weights(
        values(trained.embedding),
        layers,
        values(trained.output_bias),
        None if trained.shape.tied else values(trained.output_matrix),
        trained.shape.cell,
        trained.shape.order,
    )


def to_model(weights: Weights, dropout: float = 0.0) -> LanguageModel:
    made = model.make(weights.shape, dropout)
    pairs = [(made.embedding, weights.embedding), (made.output_bias, weights.output_bias)]
    if weights.output_matrix is not None:
        pairs.append((made.output_matrix, weights.output_matrix))
    for index, layer in enumerate(weights.layers):
        pairs += [(made.input_matrices[index], layer.input_matrix), (made.biases[index], layer.bias)]
        if layer.recurrent_matrix is not None:
            pairs.append((made.recurrent_matrices[index], layer.recurrent_matrix))
        if layer.extra is not None:
            pairs.append((made.extras[index], layer.extra))
    with torch.no_grad():
        for parameter, values in pairs:
            parameter.copy_(torch.from_numpy(numpy.array(values, dtype=numpy.float32)))
    return made


def mapped(weights: Weights, change) -> Weights:
    """The same model with `change` applied to every matrix (not to vectors)."""

    def matrix(values):
        return None if values is None else change(values)

    layers = [
        Layer(matrix(layer.input_matrix), matrix(layer.recurrent_matrix), layer.bias, layer.extra)
        for layer in weights.layers
    ]
    return Weights(
        matrix(weights.embedding), layers, weights.output_bias, matrix(weights.output_matrix), weights.cell, weights.order
    )


def rounded(weights: Weights, storage: str) -> Weights:
    """What is left of the weights after they were stored: still float32."""
    if storage == "fp16":
        return mapped(weights, lambda values: values.astype(numpy.float16).astype(numpy.float32))
    if storage == "int8":
        return mapped(weights, lambda values: dequantised(*quantised(values)))
    return weights


def quantised(values: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A matrix as int8, and the scale of each row: fixed, so that no score depends on what it is batched with."""
    scales = (numpy.abs(values).max(axis=1) / 127.0).astype(numpy.float32)
    # A row of zeros needs a scale too.
    scales[scales == 0.0] = 1.0
    return numpy.clip(numpy.rint(values / scales[:, None]), -127, 127).astype(numpy.int8), scales


def dequantised(values: numpy.ndarray, scales: numpy.ndarray) -> numpy.ndarray:
    return values.astype(numpy.float32) * scales[:, None]
