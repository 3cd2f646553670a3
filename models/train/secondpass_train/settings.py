"""What a run is told: every option of `train` and `finetune`, with its default."""

from dataclasses import dataclass, field
from pathlib import Path

from . import tokenizer
from .model import KINDS
from .schedule import SCHEDULES

PRECISIONS = ("auto", "float32", "bfloat16")


def _option(default, explained, choices=None):
    return field(default=default, metadata={"help": explained, "choices": choices})


@dataclass(frozen=True)
class Settings:
    out: Path
    text: list[Path] = field(default_factory=list)
    dev: Path | None = None
    start: Path | None = None  # fine-tuning: the checkpoint or exported model to start from
    # How long. Whichever is reached first; None: not limited by it.
    minutes: float | None = None
    epochs: float | None = None
    tokens: float | None = None
    # The tokenizer.
    tokenizer: str = _option("unigram", "how words are cut", tokenizer.KINDS)
    vocabulary: int = _option(4000, "tokens of the tokenizer")
    coverage: float = _option(0.9999, "share of the text's characters that are no <unk> (not for words)")
    tokenizer_sample: int = _option(200_000, "sentences a SentencePiece tokenizer is trained on")
    # The network.
    cell: str = _option("lstm", "kind of network", KINDS)
    hidden: int = _option(512, "size of the hidden vectors")
    embedding: int = _option(0, "size of the embedding; 0: as --hidden. Another size needs --untied")
    layers: int = _option(1, "layers between embedding and output")
    order: int = _option(4, "of the feed-forward network: tokens of context and the one predicted")
    tied: bool = True
    dropout: float = _option(0.0, "on what goes into each layer and into the output")
    # The optimiser.
    learning_rate: float = _option(3e-3, "at its peak")
    schedule: str = _option("cosine", "of the learning rate", tuple(SCHEDULES))
    warm_up: float = _option(0.02, "share of the run in which the learning rate rises")
    weight_decay: float = _option(0.01, "of AdamW")
    clip: float = _option(1.0, "largest norm of the gradient")
    lanes: int = _option(64, "rows of a batch")
    window: int = _option(32, "steps the gradient goes back; the state is carried on")
    samples: int = _option(0, "of the sampled softmax, for large vocabularies; 0: full softmax")
    full_softmax: float = _option(0.2, "share of the run, at its end, with the full softmax all the same")
    # The run.
    evaluations: int = _option(12, "looks at the held-out text, evenly over the run")
    patience: int = _option(4, "looks without improvement after which to stop; 0: never")
    dev_sentences: int = _option(1000, "held-out sentences looked at during training")
    device: str = _option("auto", "cpu, cuda, cuda:N; auto: CUDA where there is one")
    precision: str = _option("auto", "of matrix products; auto: bfloat16 on CUDA and processors with an instruction for it, else float32", PRECISIONS)
    threads: int = _option(2, "CPU threads")
    seed: int = _option(1, "of every random choice")
