"""Runs: resumed ones, sampled softmax, early stop, fine-tuning, tokenizers, storage."""

import dataclasses
import io
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path

import numpy
import torch

import corpus
from secondpass_train import checkpoint, evaluate, export, kernels, model, prepare, scoring, tokenizer, train
from secondpass_train.__main__ import main
from secondpass_train.batches import Corpus, Position
from secondpass_train.evaluate import Held
from secondpass_train.model import Shape
from secondpass_train.schedule import learning_rate


class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        corpus.write(cls.folder)
        cls.settings = corpus.settings(cls.folder, "base", dropout=0.2)
        cls.best = _quietly(train.train, cls.settings)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_a_resumed_run_is_the_unbroken_one(self):
        whole = checkpoint.read(self.settings.out / checkpoint.LAST)
        broken = dataclasses.replace(self.settings, out=self.folder / "broken")

        class Stop(Exception):
            pass

        save = checkpoint.save

        def stopping(path, content):
            save(path, content)
            if path.name == checkpoint.LAST:
                raise Stop

        checkpoint.save = stopping
        try:
            with self.assertRaises(Stop):
                _quietly(train.train, broken)
        finally:
            checkpoint.save = save
        middle = checkpoint.read(broken.out / checkpoint.LAST)["progress"]
        self.assertTrue(10 < middle["updates"] < whole["progress"]["updates"])
        _quietly(train.train, broken)
        again = checkpoint.read(broken.out / checkpoint.LAST)
        self.assertEqual(again["progress"]["position"], whole["progress"]["position"])
        self.assertEqual(again["progress"]["tokens"], whole["progress"]["tokens"])
        for name, values in whole["model"].items():
            torch.testing.assert_close(again["model"][name], values, rtol=0, atol=0, msg=name)

    def test_a_run_that_is_over_stays_as_it_is(self):
        before = checkpoint.read(self.best)["model"]
        _quietly(train.train, self.settings)
        for name, values in checkpoint.read(self.best)["model"].items():
            torch.testing.assert_close(values, before[name], rtol=0, atol=0)

    def test_another_model_is_not_gone_on_with(self):
        with self.assertRaisesRegex(SystemExit, "another model"):
            _quietly(train.train, dataclasses.replace(self.settings, hidden=20))

    def test_sampled_softmax_learns(self):
        settings = corpus.settings(self.folder, "sampled", tokenizer="words", vocabulary=60, samples=20)
        best = _quietly(train.train, settings)
        self.assertLess(scoring.perplexity(best, settings.dev).per_word, 60.0)

    def test_bfloat16_learns_when_asked_for(self):
        for cell in ("lstm", "gru"):
            settings = corpus.settings(self.folder, f"half-{cell}", cell=cell, precision="bfloat16")
            best = _quietly(train.train, settings)
            self.assertLess(scoring.perplexity(best, settings.dev).per_word, 80.0)

    def test_stops_when_nothing_improves(self):
        settings = corpus.settings(
            self.folder, "stopped", learning_rate=0.0, evaluations=40, patience=2, epochs=20.0, schedule="plateau"
        )
        _quietly(train.train, settings)
        last = checkpoint.read(settings.out / checkpoint.LAST)["progress"]
        self.assertEqual((last["waited"], last["falls"]), (3, 3))
        self.assertEqual(last["evaluations"], 4)

    def test_finetuning_starts_from_an_exported_file_and_never_ends_worse(self):
        own, dev = self.folder / "own.txt", self.folder / "own-dev.txt"
        lines = ["the woman in the red hat was running under the tree", "she looked very slowly"] * 60
        own.write_text("\n".join(lines) + "\n")
        dev.write_text("\n".join(lines[:10]) + "\n")
        exported = _quietly(export.export, self.best, None, self.folder / "shipped", "fp16")
        before = scoring.perplexity(exported, dev).per_word
        options = ["--text", str(own), "--dev", str(dev), "--lanes", "4", "--window", "8", "--threads", "1", "--seed", "2"]
        for name, more in (("tuned", ["--learning-rate", "1e-2"]), ("spoilt", ["--learning-rate", "5"])):
            out = self.folder / name
            _quietly(main, ["finetune", "--from", str(exported), "--out", str(out), *options, *more])
            after = scoring.perplexity(out, dev).per_word
            if name == "tuned":
                self.assertLess(after, 0.7 * before)
            self.assertLessEqual(after, before * 1.0001)
            _quietly(main, ["export", str(out), "--out", str(self.folder / f"{name}-model")])
            self.assertAlmostEqual(scoring.perplexity(self.folder / f"{name}-model", dev).per_word / after, 1.0, places=4)

    def test_storage_is_checked_and_its_price_told(self):
        sizes = {}
        for storage in ("fp32", "fp16", "int8"):
            said = io.StringIO()
            with redirect_stdout(said):
                path = export.export(self.settings.out, None, self.folder / storage, storage)
            sizes[storage] = path.stat().st_size
            self.assertEqual("stored as" in said.getvalue(), storage != "fp32")
            stored = scoring.perplexity(path, self.settings.dev).per_word
            exact = scoring.perplexity(self.best, self.settings.dev).per_word
            self.assertLess(abs(stored / exact - 1), {"fp32": 1e-5, "fp16": 2e-3, "int8": 5e-2}[storage])
        self.assertGreater(sizes["fp32"], sizes["fp16"])
        self.assertGreater(sizes["fp16"], sizes["int8"])

    def test_a_prepared_folder_trains_without_its_text(self):
        settings = corpus.settings(self.folder, "elsewhere", epochs=0.5)
        _quietly(prepare.prepare, settings)
        (settings.out / tokenizer.Pieces.file).unlink()
        _quietly(train.train, dataclasses.replace(settings, text=[], dev=None))
        with self.assertRaisesRegex(SystemExit, "nothing is prepared"):
            _quietly(prepare.prepare, corpus.settings(self.folder, "nowhere", text=[], dev=None))


class Tokenizers(unittest.TestCase):
    def test_kinds(self):
        lines = corpus.make_tiny.made_up_sentences(seed=5, count=300)
        with tempfile.TemporaryDirectory() as name:
            for kind in tokenizer.KINDS:
                with self.subTest(kind):
                    folder = Path(name) / kind
                    folder.mkdir()
                    # BPE learns merges up to the number; there must be that many.
                    made = tokenizer.train(lines, kind, 40, folder)
                    self.assertLessEqual(made.size, 40)
                    again = tokenizer.load(folder)
                    ids = again.encode(["the cat zq", ""])
                    self.assertEqual(ids, made.encode(["the cat zq", ""]))
                    self.assertEqual((ids[0][-1], ids[1]), (made.eos, [made.eos]))
                    line = made.spell("the cat zq")
                    self.assertEqual(line.ids, ids[0])
                    # z and q are in no word of the corpus.
                    self.assertEqual("".join(line.unknown), "zq")
                    self.assertEqual(line.ids.count(made.unk), len(line.unknown))

    def test_words_are_listed_by_frequency(self):
        with tempfile.TemporaryDirectory() as name:
            made = tokenizer.train(["b a a <s>", "a c b d"], "words", 6, Path(name))
            self.assertEqual(made.encode(["a b c d"]), [[3, 4, 5, 0, 2]])

    def test_many_words_take_four_bytes_each(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made = tokenizer.train([" ".join(f"w{n}" for n in range(70_000))], "words", 80_000, folder)
            tokenizer.encode_to_disk(made, iter(["w5 w69999"]), folder / "t", folder / "s.npy", 1)
            stored = Corpus(folder / "t", folder / "s.npy", tokenizer.id_type(made.size))
            self.assertEqual(stored.tokens.tolist(), made.encode(["w5 w69999"])[0])
            self.assertGreater(stored.tokens.max(), 65_535)


class Batches(unittest.TestCase):
    def test_any_position_can_be_gone_on_from(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made = tokenizer.train(["a b c d e"], "words", 8, folder)
            lines = ["a b c", "d e", "e e e a", "b"] * 10
            tokenizer.encode_to_disk(made, iter(lines), folder / "t", folder / "s.npy", 1)
            stored = Corpus(folder / "t", folder / "s.npy")
            whole = stored.batches(3, 7, made.bos, made.eos, seed=1)
            batches = [next(whole) for _ in range(30)]
            for index in (0, 5, 11, 12, 13, 25):
                going_on = stored.batches(3, 7, made.bos, made.eos, 1, batches[index].after)
                for expected in batches[index + 1 : index + 4]:
                    got = next(going_on)
                    torch.testing.assert_close(got.tokens, expected.tokens)
                    self.assertEqual((got.fresh, got.after), (expected.fresh, expected.after))
            self.assertEqual(batches[0].after, Position(0, 0, 1))
            # Every pass has its own order.
            fresh = [batch.tokens for batch in batches if batch.fresh]
            self.assertFalse(torch.equal(fresh[0], fresh[1]))


class Losses(unittest.TestCase):
    def test_sampled_softmax_of_every_word_is_the_full_one(self):
        torch.manual_seed(1)
        hidden, matrix, bias = torch.randn(5, 4), torch.randn(9, 4), torch.randn(9)
        targets = torch.randint(9, (5,))
        everything, expected = torch.arange(9), torch.zeros(9)
        sampled = kernels.sampled_cross_entropy(hidden, matrix, bias, targets, everything, expected)
        full = kernels.cross_entropy(hidden, matrix, bias, targets)
        torch.testing.assert_close(sampled, full)

    def test_gradients_are_those_of_pytorchs_own_lstm(self):
        for precision, tolerance in ((None, 1e-9), (torch.bfloat16, 3e-2)):
            torch.manual_seed(1)
            kind = torch.float64 if precision is None else torch.float32
            made = model.make(Shape(11, 8, 1, "lstm")).to(kind)
            made.precision = precision
            # Far from the start, where all gradients are small.
            for parameter in made.parameters():
                torch.nn.init.normal_(parameter, std=0.5)
            # Eleven tokens in 35 places: each occurs several times.
            tokens, targets = torch.randint(11, (7, 5)), torch.randint(11, (7, 5))
            keep = torch.ones(7, 5, 1, dtype=kind)
            loss, _ = made.loss(tokens, targets, made.start(5), keep)
            loss.backward()
            expected, gradients = _by_pytorch(made, tokens, targets)
            torch.testing.assert_close(loss.double(), expected.double(), rtol=tolerance, atol=0)
            for name, parameter in made.named_parameters():
                apart = (parameter.grad - gradients[name]).norm() / gradients[name].norm()
                self.assertLess(apart.item(), tolerance, (precision, name))

    def test_a_target_of_no_probability_has_a_gradient(self):
        hidden = torch.tensor([[1.0]], requires_grad=True)
        matrix = torch.tensor([[500.0], [-500.0]])
        loss = kernels.cross_entropy(hidden, matrix, torch.zeros(2), torch.tensor([1]))
        loss.backward()
        self.assertTrue(torch.isfinite(loss).item())
        self.assertEqual(hidden.grad.item(), 1000.0)

    def test_held_out_text_is_looked_at_in_float32(self):
        torch.manual_seed(1)
        made = model.make(Shape(11, 16, 1, "lstm"))
        held = Held([numpy.array([5, 6, 7, 2])], 3)
        exact = evaluate.perplexity(made, held).log_probability
        made.precision = torch.bfloat16
        self.assertEqual(evaluate.perplexity(made, held).log_probability, exact)
        self.assertEqual(made.precision, torch.bfloat16)

    def test_schedules(self):
        for name in ("cosine", "plateau", "constant"):
            self.assertAlmostEqual(learning_rate(name, 2.0, 0.1, 0.05, 0), 1.0)
            self.assertAlmostEqual(learning_rate(name, 2.0, 0.1, 0.1, 0), 2.0)
        self.assertAlmostEqual(learning_rate("cosine", 2.0, 0.1, 1.0, 0), 0.0)
        self.assertAlmostEqual(learning_rate("cosine", 2.0, 0.0, 0.5, 7), 1.0)
        self.assertAlmostEqual(learning_rate("plateau", 2.0, 0.1, 0.9, 2), 0.5)


class Perplexities(unittest.TestCase):
    def test_unknown_words_are_spelled_for_comparison(self):
        from secondpass_train.evaluate import Perplexity

        ln = -10.0
        of = lambda unknown, characters: Perplexity(ln, 4, 5, 1, 20, unknown, characters)  # noqa: E731
        self.assertAlmostEqual(of(0, 0).spelled, of(0, 0).per_word)
        self.assertAlmostEqual(of(0, 0).per_word, numpy.exp(2.0))
        # Three characters and an end, each one of 154,999.
        self.assertAlmostEqual(of(1, 3).spelled, numpy.exp((10.0 + 4 * numpy.log(154_999)) / 5), places=3)


def _by_pytorch(made, tokens, targets):
    """The loss and its gradients by torch.nn.LSTM and autograd."""
    size = made.shape.hidden
    plain = torch.nn.LSTM(size, size).to(made.embedding.dtype)
    # Rows i, o, f, c here; i, f, c, o there.
    order = torch.cat([torch.arange(size) + block * size for block in (0, 2, 3, 1)])
    ours = {
        "input_matrices.0": plain.weight_ih_l0,
        "recurrent_matrices.0": plain.weight_hh_l0,
        "biases.0": plain.bias_ih_l0,
    }
    with torch.no_grad():
        plain.bias_hh_l0.zero_()
        for name, parameter in ours.items():
            parameter.copy_(made.get_parameter(name)[order])
    embedding = made.embedding.detach().clone().requires_grad_()
    bias = made.output_bias.detach().clone().requires_grad_()
    hiddens, _ = plain(torch.nn.functional.embedding(tokens, embedding))
    logits = hiddens @ embedding.t() + bias
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    gradients = {name: parameter.grad[order.argsort()] for name, parameter in ours.items()}
    return loss.detach(), {**gradients, "embedding": embedding.grad, "output_bias": bias.grad}


def _quietly(function, *arguments):
    with redirect_stdout(io.StringIO()):
        return function(*arguments)


if __name__ == "__main__":
    unittest.main()
