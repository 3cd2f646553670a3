"""Every cell: training lowers the perplexity, the export equals the module, and both equal plain numpy."""

import tempfile
import unittest
from pathlib import Path

import numpy
import torch

import corpus
from secondpass_train import checkpoint, export, model, reference, restore, scoring, tokenizer, train
from secondpass_train import weights as arrays
from secondpass_train.model import FEED_FORWARD, Shape


class Cells(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        corpus.write(cls.folder)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_training_lowers_the_perplexity_and_the_export_says_the_same(self):
        for cell in model.KINDS:
            with self.subTest(cell):
                settings = corpus.settings(self.folder, f"run-{cell}", cell=cell, layers=2)
                best = train.train(settings)
                exported = export.export(best, None, self.folder / f"model-{cell}")
                measured = scoring.perplexity(exported, settings.dev)
                # Untrained it is several thousand.
                self.assertLess(measured.per_word, 60.0)
                again = scoring.perplexity(best, settings.dev)
                self.assertAlmostEqual(measured.log_probability / again.log_probability, 1.0, places=5)

    def test_numpy_pytorch_and_onnx_runtime_agree(self):
        words = tokenizer.train(["a b c d e f g h"], "words", 11, self.folder)
        ids = [3, 7, 4, 10, 0, 3, 3, 5, words.eos]
        tokens = torch.tensor([[words.bos, *ids[:-1]]])
        for cell in model.KINDS:
            for tied, layers, order in ((True, 2, 4), (False, 1, 2)):
                with self.subTest(cell, tied=tied):
                    torch.manual_seed(3)
                    made = _random(Shape(11, 6, layers, cell, 6 if tied else 4, tied, order))
                    expected = reference.log_probabilities(arrays.of_model(made), ids, words.bos)
                    state = made.start(1)
                    logs, *_ = made(tokens, *state)
                    numpy.testing.assert_allclose(logs[0].detach()[range(9), ids], expected, atol=1e-5)
                    self.assertLess(export.largest_difference(made, export.serialise(made, words, "fp32")), 1e-5)
                    # Token by token, the state handed over.
                    stepped = []
                    for place in range(9):
                        logs, *state = made(tokens[:, place : place + 1], *state)
                        stepped.append(float(logs[0, 0, ids[place]].detach()))
                    numpy.testing.assert_allclose(stepped, expected, atol=1e-5)

    def test_a_sentence_does_not_see_the_one_before_it(self):
        for cell in model.KINDS:
            with self.subTest(cell):
                torch.manual_seed(4)
                made = _random(Shape(11, 6, 2, cell, order=4))
                tokens = torch.tensor([[5], [1], [7], [4], [1], [9], [3]])
                keep = (tokens != 1).float().unsqueeze(2)
                state = [torch.randn_like(part) for part in made.start(1)]
                packed, after = made.hiddens(tokens, state, keep)
                for part, last in ((slice(1, 4), False), (slice(4, 7), True)):
                    sentence = tokens[part]
                    alone, alone_after = made.hiddens(sentence, made.start(1), torch.ones(len(sentence), 1, 1))
                    torch.testing.assert_close(packed[part], alone)
                    if last:
                        torch.testing.assert_close(after, alone_after)
                # Cut into windows of any length, with the state carried on, it is the same.
                first, middle = made.hiddens(tokens[:2], state, keep[:2])
                rest, last_state = made.hiddens(tokens[2:], middle, keep[2:])
                torch.testing.assert_close(torch.cat([first, rest]), packed)
                torch.testing.assert_close(last_state, after)

    def test_weights_come_back_from_the_file(self):
        words = tokenizer.train(["a b c d e f g h"], "words", 11, self.folder)
        for cell in model.KINDS:
            for storage in arrays.STORAGES:
                for tied in (True, False):
                    with self.subTest(cell, storage=storage, tied=tied):
                        torch.manual_seed(5)
                        made = _random(Shape(11, 6, 2, cell, 6 if tied else 4, tied, 3 if cell == FEED_FORWARD else 0))
                        path = self.folder / "m.onnx"
                        serialised = export.serialise(made, words, storage)
                        path.write_bytes(serialised)
                        stored = arrays.to_model(arrays.rounded(arrays.of_model(made), storage))
                        self.assertLess(export.largest_difference(stored, serialised), 1e-5)
                        read = restore.load(path)
                        self.assertEqual(read.shape, made.shape)
                        for (name, one), other in zip(read.state_dict().items(), stored.state_dict().values()):
                            torch.testing.assert_close(one, other, msg=name)
                        # Exported once more it is the same file, rounding and all.
                        if storage != "int8":
                            self.assertEqual(export.serialise(read, words, storage), serialised)

    def test_checkpoints_of_earlier_versions_load(self):
        made = model.make(Shape(11, 6, 1))
        path = self.folder / "old.pt"
        torch.save({"shape": {"vocabulary": 11, "hidden": 6, "layers": 1}, "model": made.state_dict()}, path)
        self.assertEqual(checkpoint.load_model(path).shape, made.shape)


def _random(shape: Shape) -> model.LanguageModel:
    """Weights large enough that probabilities are far from uniform and the state matters."""
    made = model.make(shape).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.5)
    return made


if __name__ == "__main__":
    unittest.main()
