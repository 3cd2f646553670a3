"""Exports small models with the real exporters: `python export_real.py FOLDER`.

torch.onnx in both modes (TorchScript, dynamo) for nn.LSTM, nn.GRU and nn.RNN, for word_language_model's and
icefall's way of calling it, and Hugging Face models by optimum where that is installed. Each folder has
what `make_foreign.py` writes: the model, its vocabulary, and the scores that the exporting module gives in
float64. What an exporter refuses is printed and left out.
"""

import copy
import json
import sys
import warnings
from pathlib import Path

import torch

from foreign.writer import random_sentences, vocabulary

SIZE = 24
BOS, EOS = 0, 1
SYMBOLS = vocabulary(SIZE, {0: "<s>", 1: "</s>", 2: "<unk>"})
LINES = random_sentences(3, range(2, SIZE), EOS)
CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


class Network(torch.nn.Module):
    """Embedding, recurrent layers, output layer; `mode` says what forward takes and gives."""

    def __init__(self, cell: str, layers: int, mode: str):
        super().__init__()
        torch.manual_seed(len(mode) + layers)
        self.embedding = torch.nn.Embedding(SIZE, 6)
        self.rnn = CELLS[cell](6, 8, layers, batch_first=mode != "word-lm")
        self.output = torch.nn.Linear(8, SIZE)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, 0, 0.7)
        self.lstm, self.layers, self.mode = cell == "lstm", layers, mode

    def forward(self, tokens, *states):
        flow = self.embedding(tokens)
        if self.mode == "no-states":
            flow, _ = self.rnn(flow)
            return self.output(flow)
        flow, last = self.rnn(flow, tuple(states) if self.lstm else states[0])
        last = tuple(last) if self.lstm else (last,)
        if self.mode == "word-lm":
            return torch.log_softmax(self.output(flow).view(-1, SIZE), dim=1), *last
        if self.mode == "first":
            return self.output(flow)[:, 0].log_softmax(-1), *last
        return self.output(flow), *last

    def zeros(self, batch: int):
        count = 0 if self.mode == "no-states" else 2 if self.lstm else 1
        return tuple(torch.zeros(self.layers, batch, 8) for _ in range(count))

    def scores(self, ids: list[int], start: int) -> list[float]:
        """By the module itself, in float64, a sentence at a time."""
        wide = copy.deepcopy(self).double().eval()
        with torch.no_grad():
            read = torch.tensor([[start, *ids[:-1]]])
            flow = wide.embedding(read)
            flow, _ = wide.rnn(flow if self.rnn.batch_first else flow.transpose(0, 1))
            flow = flow if self.rnn.batch_first else flow.transpose(0, 1)
            logs = torch.log_softmax(wide.output(flow), dim=-1)
            return [float(logs[0, place, token]) for place, token in enumerate(ids)]


class IcefallNoState(torch.nn.Module):
    """What icefall's export-onnx.py wraps its model in: the ends and the loss are part of the graph."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, x, x_lens):
        rows = x.size(0)
        read = torch.cat([torch.full((1,), EOS, dtype=x.dtype).expand(rows, 1), x], dim=1)
        wanted = torch.cat([x, torch.zeros((1,), dtype=x.dtype).expand(rows, 1)], dim=1)
        wanted[torch.arange(0, rows), x_lens] = EOS
        lengths = x_lens + 1
        logits = self.network(read)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, SIZE), wanted.reshape(-1), reduction="none")
        mask = torch.arange(0, int(lengths.max()) if not torch.jit.is_tracing() else lengths.max())
        mask = (mask.unsqueeze(0) >= lengths.unsqueeze(1)).reshape(-1)
        return loss.masked_fill(mask, 0).reshape(wanted.shape).sum(dim=1)


def main(folder: Path) -> None:
    for dynamo in (False, True):
        style = "dynamo" if dynamo else "legacy"
        for cell in CELLS:
            for layers in (1, 2):
                for mode in ("states", "no-states"):
                    network = Network(cell, layers, mode)
                    attempt(folder / f"{style}-{cell}-{layers}-{mode}", network, dynamo)
        attempt(folder / f"{style}-icefall-with-state", Network("lstm", 2, "first"), dynamo)
        for cell in CELLS:
            attempt(folder / f"{style}-word-lm-{cell}", Network(cell, 2, "word-lm"), dynamo, fixed=True)
    icefall(folder / "legacy-icefall-no-state")
    quantised(folder)
    hugging_face(folder)


def attempt(folder: Path, network: Network, dynamo: bool, fixed: bool = False) -> None:
    # The exporter keeps what it learnt of one model's shapes for the next.
    torch._dynamo.reset()
    # Where time is frozen although it should be free (nn.RNN by dynamo), it is frozen to this.
    tokens = torch.randint(2, SIZE, (35, 1) if fixed else (2, 20))
    states = network.zeros(1 if fixed else 2)
    folder.mkdir(parents=True, exist_ok=True)
    options = {}
    if not fixed and dynamo:
        batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
        shapes = ({0: batch, 1: time}, tuple({1: batch} for _ in states))
        options["dynamic_shapes"] = shapes if states else shapes[:1]
    elif not fixed:
        names = ["tokens_in", *(f"first_{part}" for part in range(len(states)))]
        axes = {names[0]: {0: "N", 1: "T"}} | {name: {1: "N"} for name in names[1:]}
        options |= {"input_names": names, "dynamic_axes": axes}
    if not export(folder, network.eval(), (tokens, *states), dynamo, options) and dynamo:
        # As people do then: with the sizes as they are.
        torch._dynamo.reset()
        print(f"{folder.name}: exported with fixed sizes instead")
        export(folder, network, (torch.randint(2, SIZE, (1, 20)), *network.zeros(1)), dynamo, {})
    start = EOS if network.mode in ("word-lm", "first") else BOS
    expected(folder, [(ids, network.scores(ids, start)) for ids in LINES], start)


def icefall(folder: Path) -> None:
    network = Network("lstm", 2, "no-states")
    folder.mkdir(parents=True, exist_ok=True)
    axes = {"x": {0: "N", 1: "L"}, "x_lens": {0: "N"}, "nll": {0: "N"}}
    options = {"input_names": ["x", "x_lens"], "output_names": ["nll"], "dynamic_axes": axes, "opset_version": 13}
    inputs = (torch.randint(2, SIZE, (1, 5)), torch.tensor([5]))
    export(folder, IcefallNoState(network).eval(), inputs, False, options)
    expected(folder, [(ids, network.scores(ids, EOS)) for ids in LINES], EOS)


def export(folder: Path, module, inputs: tuple, dynamo: bool, options: dict) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, inputs, str(folder / "model.onnx"), dynamo=dynamo, **options)
    except Exception as error:  # noqa: BLE001: whatever an exporter raises, the others go on
        print(f"{folder.name}: not exported: {str(error).splitlines()[0]}")
        (folder / "model.onnx").unlink(missing_ok=True)
        return False
    return True


def quantised(folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in ("legacy-lstm-2-states", "legacy-icefall-no-state"):
        source, target = folder / name, folder / f"{name}-int8"
        if (source / "model.onnx").exists():
            target.mkdir(exist_ok=True)
            quantize_dynamic(source / "model.onnx", target / "model.onnx", weight_type=QuantType.QInt8)
            facts = json.loads((source / "expected.json").read_text())
            (target / "expected.json").write_text(json.dumps(facts | {"tolerance": 0.5}))
            (target / "tokens.txt").write_text((source / "tokens.txt").read_text())


def hugging_face(folder: Path) -> None:
    try:
        from optimum.exporters.onnx import main_export
        from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        print(f"hugging face: not exported: {error}")
        return
    sizes = {"vocab_size": SIZE, "bos_token_id": BOS, "eos_token_id": EOS}
    gpt = GPT2Config(n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5, **sizes)
    llama = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=64, initializer_range=0.5, **sizes,
    )  # fmt: skip
    for name, model in (("gpt2", GPT2LMHeadModel(gpt)), ("llama", LlamaForCausalLM(llama))):
        source = folder / f".{name}"
        model.eval().save_pretrained(source)
        wide = copy.deepcopy(model).double()
        cases = []
        for ids in LINES:
            with torch.no_grad():
                logs = torch.log_softmax(wide(torch.tensor([[BOS, *ids[:-1]]])).logits[0], dim=-1)
            cases.append((ids, [float(logs[place, token]) for place, token in enumerate(ids)]))
        for task in ("text-generation", "text-generation-with-past"):
            target = folder / f"optimum-{name}{task.removeprefix('text-generation')}"
            try:
                main_export(str(source), output=target, task=task, do_validation=False)
            except Exception as error:  # noqa: BLE001
                print(f"{target.name}: not exported: {str(error).splitlines()[0]}")
                continue
            expected(target, cases, BOS)


def expected(folder: Path, cases: list, start: int) -> None:
    sentences = [{"ids": ids, "log_probs": logs, "total": sum(logs)} for ids, logs in cases]
    facts = {"bos_id": start, "eos_id": EOS, "vocab_size": SIZE, "tolerance": 1e-5, "sentences": sentences}
    (folder / "expected.json").write_text(json.dumps(facts))
    symbols = SYMBOLS if start == BOS else vocabulary(SIZE, {0: "<pad>", 1: "<eos>", 2: "<unk>"})
    (folder / "tokens.txt").write_text("".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
