"""Gradients written by hand, and the committed tiny models."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import make_tiny  # noqa: E402
from secondpass_train import kernels  # noqa: E402
from secondpass_train import model as models  # noqa: E402
from secondpass_train.model import Shape  # noqa: E402


class Gradients(unittest.TestCase):
    def test_against_autograd_through_torch_lstm(self):
        torch.manual_seed(1)
        size, rows, steps, words = 6, 3, 5, 11
        model = models.make(Shape(words, size, 1)).double()
        layer = torch.nn.LSTM(size, size).double()
        with torch.no_grad():
            _to_onnx_order(layer.weight_ih_l0, model.input_matrices[0])
            _to_onnx_order(layer.weight_hh_l0, model.recurrent_matrices[0])
            _to_onnx_order(layer.bias_ih_l0 + layer.bias_hh_l0, model.biases[0])
        tokens = torch.randint(words, (steps, rows))
        targets = torch.randint(words, (steps, rows))
        loss, _ = model.loss(tokens, targets, model.start(rows), torch.ones(steps, rows, 1).double())
        loss.backward()
        table = model.embedding.detach().clone().requires_grad_()
        flow, _ = layer(torch.nn.functional.embedding(tokens, table))
        other = torch.nn.functional.cross_entropy((flow @ table.t()).reshape(-1, words), targets.reshape(-1))
        other.backward()
        self.assertAlmostEqual(loss.item(), other.item(), places=9)
        torch.testing.assert_close(model.embedding.grad, table.grad)
        expected = torch.empty_like(model.recurrent_matrices[0])
        _to_onnx_order(layer.weight_hh_l0.grad, expected)
        torch.testing.assert_close(model.recurrent_matrices[0].grad, expected)

    def test_state_is_cleared_where_a_sentence_begins(self):
        torch.manual_seed(1)
        inputs, matrix = torch.randn(4, 1, 12), torch.randn(12, 3)
        state = torch.randn(1, 3)
        keep = torch.tensor([1.0, 1.0, 0.0, 1.0]).view(4, 1, 1)
        whole, _, _ = kernels.recurrence(inputs, matrix, state, state, keep)
        zeros = torch.zeros(1, 3)
        alone, _, _ = kernels.recurrence(inputs[2:], matrix, zeros, zeros, torch.ones(2, 1, 1))
        torch.testing.assert_close(whole[2:], alone)


class TinyModels(unittest.TestCase):
    def test_fixtures_are_what_the_script_makes(self):
        with tempfile.TemporaryDirectory() as name:
            make_tiny.main(Path(name))
            committed = Path(__file__).resolve().parents[3] / "fixtures" / "models"
            for file in ("tiny-lstm/expected.json", "tiny-bpe/expected.json", "wide-lstm/expected.json"):
                made = json.loads((Path(name) / file).read_text())
                kept = json.loads((committed / file).read_text())
                self.assertEqual([case["ids"] for case in made["sentences"]], [case["ids"] for case in kept["sentences"]])
                for one, other in zip(made["sentences"], kept["sentences"]):
                    numpy.testing.assert_allclose(one["log_probs"], other["log_probs"], atol=1e-6)


def _to_onnx_order(source: torch.Tensor, target: torch.Tensor) -> None:
    """torch keeps the gates as i, f, g, o; ONNX as i, o, f, c."""
    i, f, g, o = source.chunk(4)
    with torch.no_grad():
        target.copy_(torch.cat([i, o, f, g]))


if __name__ == "__main__":
    unittest.main()
