"""To another machine and back: what arrives is what was sent, and trains to the same model."""

import io
import os
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path

import numpy
import torch

import corpus
import remote
from secondpass_train import checkpoint, prepare, train

HERE = Path(__file__).resolve().parents[1]


class Remote(unittest.TestCase):
    def test_there_and_back(self):
        with tempfile.TemporaryDirectory() as name, redirect_stdout(io.StringIO()):
            folder = Path(name)
            corpus.write(folder, 200)
            settings = corpus.settings(folder, "here", epochs=1.0)
            prepare.prepare(settings)
            remote.pack(settings.out, folder / "parts", mib=0.001)
            parts = sorted((folder / "parts").glob("part-*.ids"))
            self.assertGreater(len(parts), 2)
            # The last part comes in a second delivery.
            (folder / "late").mkdir()
            parts[-1].rename(folder / "late" / parts[-1].name)
            self.assertFalse(remote.unpack(folder / "parts", folder / "there"))
            environment = {**os.environ, "WORK": str(folder / "there"), "SPLIT": "0.01", "PYTHON": sys.executable}
            options = "--epochs 1 --hidden 16 --lanes 8 --window 8 --learning-rate 2e-2 --evaluations 2 --patience 0"
            subprocess.run(
                ["bash", HERE / "gpu.sh", folder / "late", folder / "out", *f"{options} --threads 1 --device cpu".split()],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            for file in (prepare.TOKENS, prepare.STARTS, prepare.FACTS):
                self.assertEqual((folder / "there" / file).read_bytes(), (settings.out / file).read_bytes(), file)
            remote.join(folder / "out", folder / "back")
            train.train(settings)
            one, other = (checkpoint.read(place / checkpoint.LAST) for place in (settings.out, folder / "back"))
            for key, values in one["model"].items():
                torch.testing.assert_close(other["model"][key], values, rtol=0, atol=0)
            self.assertTrue((folder / "back" / "model.onnx").is_file())

    def test_damaged_parts_are_noticed(self):
        with tempfile.TemporaryDirectory() as name, redirect_stdout(io.StringIO()):
            folder = Path(name)
            corpus.write(folder, 100)
            settings = corpus.settings(folder, "here")
            prepare.prepare(settings)
            remote.pack(settings.out, folder / "parts", mib=1)
            part = folder / "parts" / "part-00.ids"
            damaged = bytearray(part.read_bytes())
            damaged[100] ^= 1
            part.write_bytes(damaged)
            with self.assertRaisesRegex(SystemExit, "copy the parts again"):
                remote.unpack(folder / "parts", folder / "there")

    def test_bits(self):
        source = numpy.random.default_rng(1)
        for bits in (1, 6, 12, 13, 17):
            ids = source.integers(0, 1 << bits, 1001).astype(numpy.uint32)
            packed = remote.to_bits(ids, bits)
            self.assertEqual(len(packed), (1001 * bits + 7) // 8)
            numpy.testing.assert_array_equal(remote.from_bits(packed, bits, 1001), ids)


if __name__ == "__main__":
    unittest.main()
