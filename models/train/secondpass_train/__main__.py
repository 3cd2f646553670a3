"""`python -m secondpass_train train|export|perplexity`."""

import argparse
from pathlib import Path


def main() -> None:
    arguments = _parser().parse_args()
    arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="secondpass_train", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_train(commands)
    _add_export(commands)
    _add_perplexity(commands)
    return parser


def _add_train(commands) -> None:
    from .train import Settings

    command = commands.add_parser(
        "train",
        help="text -> tokenizer and checkpoint",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--text", type=Path, nargs="+", required=True, help="one sentence a line; .gz, .bz2, .xz read as they are")
    command.add_argument("--dev", type=Path, required=True, help="held-out text")
    command.add_argument("--out", type=Path, required=True, help="folder; a run found there goes on")
    command.add_argument("--minutes", type=float, required=True, help="wall-clock budget of the training loop")
    for name, help_text in (
        ("vocabulary", "pieces of the tokenizer"),
        ("hidden", "size of embedding, hidden and cell vectors"),
        ("layers", "LSTM layers"),
        ("dropout", "between layers"),
        ("learning-rate", "at its peak"),
        ("clip", "largest norm of the gradient"),
        ("lanes", "rows of a batch"),
        ("window", "steps the gradient goes back"),
        ("tokenizer-sample", "sentences the tokenizer is trained on"),
        ("dev-sentences", "held-out sentences looked at during training"),
        ("threads", "CPU threads"),
        ("seed", "of every random choice"),
    ):
        default = getattr(Settings, name.replace("-", "_"))
        command.add_argument(f"--{name}", type=type(default), default=default, help=help_text)
    command.set_defaults(run=_train)


def _add_export(commands) -> None:
    command = commands.add_parser("export", help="checkpoint -> model.onnx and bpe.model")
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--tokenizer", type=Path, help="default: bpe.model beside the checkpoint")
    command.add_argument("--out", type=Path, required=True, help="folder")
    command.set_defaults(run=_export)


def _add_perplexity(commands) -> None:
    command = commands.add_parser("perplexity", help="of a text under an exported model, by ONNX Runtime")
    command.add_argument("model", type=Path, help="folder with model.onnx and bpe.model")
    command.add_argument("text", type=Path)
    command.set_defaults(run=_perplexity)


def _train(arguments) -> None:
    from .train import Settings, train

    settings = {key: value for key, value in vars(arguments).items() if key != "run"}
    train(Settings(**settings))


def _export(arguments) -> None:
    from .export import export

    export(arguments.checkpoint, arguments.tokenizer or arguments.checkpoint.parent / "bpe.model", arguments.out)


def _perplexity(arguments) -> None:
    from .scoring import perplexity

    print(perplexity(arguments.model, arguments.text))


if __name__ == "__main__":
    main()
