"""Exports small ESPnet language models with espnet_onnx: `python export_espnet.py FOLDER`.

SequentialRNNLM (LSTM, GRU, tanh) and TransformerLM of PyPI's espnet, through espnet_onnx's own export classes and
arguments. Each folder has the model, its `config.yaml` with the token list, and the scores that the ESPnet
module gives in float64. Needs torch, and espnet, espnet_onnx and typeguard unpacked without their other
dependencies: `pip install --no-deps espnet espnet_onnx typeguard`.
"""

import copy
import importlib.util
import json
import sys
import types
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import torch

from foreign.writer import random_sentences, vocabulary

SIZE = 24
EOS = SIZE - 1
SYMBOLS = vocabulary(SIZE, {0: "<blank>", 1: "<unk>", -1: "<sos/eos>"})
LINES = random_sentences(9, range(2, SIZE - 1), EOS)


def main(folder: Path) -> None:
    # Of text front ends, which no language model has.
    for name in ("g2p_en", "jamo", "librosa", "espnet_tts_frontend", "onnxruntime.tools", "pypinyin", "tacotron_cleaner"):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules[name] = MagicMock()
    without_the_rest("espnet_onnx", "espnet_onnx.export", "espnet_onnx.export.asr", "espnet_onnx.export.asr.models")
    from espnet2.lm.seq_rnn_lm import SequentialRNNLM
    from espnet2.lm.transformer_lm import TransformerLM
    from espnet_onnx.export.asr.models.language_models.seq_rnn import SequentialRNNLM as ExportRnn
    from espnet_onnx.export.asr.models.language_models.transformer import TransformerLM as ExportTransformer

    torch.manual_seed(3)
    for cell in ("lstm", "gru", "rnn_tanh"):
        model = SequentialRNNLM(SIZE, unit=8, nlayers=2, rnn_type=cell)
        attempt(folder / f"espnet-{cell.replace('_', '-')}", model, ExportRnn)
    transformer = TransformerLM(SIZE, pos_enc=None, embed_unit=8, att_unit=16, head=2, unit=32, layer=2, dropout_rate=0.0)
    attempt(folder / "espnet-transformer", transformer, ExportTransformer)


def without_the_rest(*packages: str) -> None:
    """Packages whose `__init__` would import what acoustic models and speech synthesis need."""
    for name in packages:
        module = types.ModuleType(name)
        parent, _, leaf = name.rpartition(".")
        if parent:
            module.__path__ = [str(Path(sys.modules[parent].__path__[0]) / leaf)]
            setattr(sys.modules[parent], leaf, module)
        else:
            module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
        sys.modules[name] = module


def attempt(folder: Path, model: torch.nn.Module, wrapper: type) -> None:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    model.eval()
    cases = [(ids, scores(model, ids)) for ids in LINES]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # As espnet_onnx's AbsModelExport._export_model does it.
        export = wrapper(copy.deepcopy(model))
        export.eval()
        inputs = export.get_dummy_inputs()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                export, inputs, str(folder / "model.onnx"), opset_version=12, dynamo=False,
                input_names=export.get_input_names(), output_names=export.get_output_names(),
                dynamic_axes=export.get_dynamic_axes(),
            )  # fmt: skip
    except Exception as error:  # noqa: BLE001: whatever an exporter raises, the others go on
        print(f"{folder.name}: not exported: {str(error).splitlines()[0]}")
        return
    sentences = [{"ids": ids, "log_probs": logs, "total": sum(logs)} for ids, logs in cases]
    facts = {"bos_id": EOS, "eos_id": EOS, "vocab_size": SIZE, "tolerance": 1e-5, "sentences": sentences}
    (folder / "expected.json").write_text(json.dumps(facts))
    tokens = "".join(f"  - {json.dumps(symbol)}\n" for symbol in SYMBOLS)
    (folder / "config.yaml").write_text(f"token:\n  sos: {EOS}\n  eos: {EOS}\n  list:\n{tokens}")


def scores(model: torch.nn.Module, ids: list[int]) -> list[float]:
    """By the module itself, in float64, in one run."""
    wide = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        logits, _ = wide(torch.tensor([[EOS, *ids[:-1]]]), None)
        logs = torch.log_softmax(logits[0], dim=-1)
    return [float(logs[place, token]) for place, token in enumerate(ids)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
