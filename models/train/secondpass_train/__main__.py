"""`python -m secondpass_train text|prepare|train|finetune|export|eval`."""

import argparse
import dataclasses
from pathlib import Path

from .settings import Settings


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="secondpass_train", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_text(commands)
    _add_training(commands, "prepare", "text -> tokenizer and token ids, for training there or elsewhere")
    _add_training(commands, "train", "text -> tokenizer and checkpoint")
    _add_training(commands, "finetune", "a checkpoint or an exported model and own text -> checkpoint")
    _add_export(commands)
    _add_eval(commands)
    return parser


def _add_text(commands) -> None:
    command = commands.add_parser("text", help="maps text as secondpass maps it for a model, to standard output")
    command.add_argument("text", type=Path, nargs="+")
    command.add_argument("--case", choices=("keep", "lower", "upper"), default="keep")
    command.add_argument("--strip-punctuation", action="store_true")
    command.add_argument("--unicode", choices=("keep", "nfc"), default="keep")
    command.add_argument("--pieces", type=Path, help="cut words by the tokenizer in this folder, for an n-gram over pieces")
    command.set_defaults(run=_text)


# Other defaults where a trained model goes on with little text: small steps, and few of them.
_DEFAULTS = {
    "finetune": {"learning_rate": 3e-4, "epochs": 3.0, "dropout": 0.1, "lanes": 16, "vocabulary": 0},
}
# What the model that is fine-tuned has decided.
_GIVEN = ("tokenizer", "vocabulary", "coverage", "tokenizer_sample", "cell", "hidden", "embedding", "layers", "order")


def _add_training(commands, name: str, help_text: str) -> None:
    command = commands.add_parser(name, help=help_text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if name == "finetune":
        command.add_argument(
            "--from", dest="start", type=Path, required=True, help="model.onnx, a checkpoint, or a folder with one"
        )
    needed = name != "train"  # a prepared folder has them
    command.add_argument(
        "--text", type=Path, nargs="+", default=[], required=needed, help="one sentence a line; .gz, .bz2, .xz read as they are"
    )
    command.add_argument("--dev", type=Path, required=needed, help="held-out text")
    command.add_argument("--out", type=Path, required=True, help="folder; a run found there goes on")
    if name != "prepare":
        command.add_argument("--minutes", type=float, help="wall-clock budget of the training loop")
        command.add_argument("--epochs", type=float, help="passes over the text")
        command.add_argument("--tokens", type=float, help="tokens to train on")
    given = _GIVEN if name == "finetune" else ()
    if not given:
        command.add_argument("--untied", dest="tied", action="store_false", help="an output matrix of its own, not the embedding's")
    for option in dataclasses.fields(Settings):
        if "help" in option.metadata and option.name not in given:
            command.add_argument(
                "--" + option.name.replace("_", "-"),
                type=type(option.default),
                default=option.default,
                choices=option.metadata["choices"],
                help=option.metadata["help"],
            )
    known = {action.dest for action in command._actions}
    command.set_defaults(run=_prepare if name == "prepare" else _train)
    command.set_defaults(**{key: value for key, value in _DEFAULTS.get(name, {}).items() if key in known})


def _add_export(commands) -> None:
    from .weights import STORAGES

    command = commands.add_parser("export", help="checkpoint -> model.onnx and its tokenizer")
    command.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of a run: there the best weights")
    command.add_argument("--tokenizer", type=Path, help="folder of the tokenizer; default: beside the checkpoint")
    command.add_argument("--out", type=Path, required=True, help="folder")
    command.add_argument("--storage", choices=STORAGES, default="fp32", help="of the matrices in the file")
    command.add_argument("--dev", type=Path, help="held-out text, to say what fp16 and int8 do to the perplexity")
    command.set_defaults(run=_export)


def _add_eval(commands) -> None:
    command = commands.add_parser("eval", aliases=["perplexity"], help="perplexity of a text under a model")
    command.add_argument("model", type=Path, help="an exported model or a checkpoint, or a folder with one")
    command.add_argument("text", type=Path)
    command.add_argument("--tokenizer", type=Path, help="folder of the tokenizer; default: beside the model")
    command.set_defaults(run=_eval)


def _text(arguments) -> None:
    from . import text, tokenizer
    from .normalise import TextMap

    mapped = TextMap(arguments.case, arguments.strip_punctuation, arguments.unicode)
    pieces = arguments.pieces and tokenizer.load(arguments.pieces)
    for line in text.sentences(arguments.text):
        if line := mapped.line(line):
            print(" ".join(pieces.processor.encode(line, out_type=str)) if pieces else line)


def _settings(arguments) -> Settings:
    return Settings(**{key: value for key, value in vars(arguments).items() if key != "run"})


def _prepare(arguments) -> None:
    from .prepare import prepare

    prepare(_settings(arguments))


def _train(arguments) -> None:
    from .train import train

    train(_settings(arguments))


def _export(arguments) -> None:
    from .export import export

    export(arguments.checkpoint, arguments.tokenizer, arguments.out, arguments.storage, arguments.dev)


def _eval(arguments) -> None:
    from .scoring import perplexity

    print(perplexity(arguments.model, arguments.text, arguments.tokenizer))


if __name__ == "__main__":
    main()
