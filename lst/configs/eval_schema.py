"""Options of ``lst eval``. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass

from lst.configs.benchmark_schema import RECOGNISERS
from lst.data.config import ADAPTATION_KINDS
from lst.options import Options, option

_IF_ADAPTED = f"eval.task={'|'.join(ADAPTATION_KINDS)}"


@dataclass
class EvalConfig(Options, prefix="eval."):
    """Options of the evaluation."""

    max_items: int = option(500, "cloze items at most; 0 takes every held-out utterance", low=0)
    context_share: float = option(
        0.6, "share of the words that is context, where no sentence end is known", above=0, below=1
    )
    min_words: int = option(6, "utterances with fewer words make no cloze item", low=2)
    bootstrap_samples: int = option(2000, "resamples for the 95 % intervals", low=100)
    rows_a_batch: int = option(8, "rows scored together", low=1)
    ceiling_utterances: int = option(
        100, "held-out stories of simulated speech whose entropy is measured; 0 measures none", low=0, is_later=True
    )
    ngram: int = option(
        13,
        "evaluation items and held-out texts that share so many words with the training are counted; 0 counts none",
        low=0,
        unit="words",
        is_later=True,
    )
    benchmark: str | None = option(
        None,
        "folder of lst benchmark build: every model is scored on it, and on nothing else",
        path="folder",
        is_later=True,
    )
    task: str = option(
        "scores",
        "scores (likelihoods), or what adapted models do, alone: asr (word errors of what they write of speech), tts "
        "(character errors of what a recogniser hears of the units that they give to texts)",
        choices=("scores", *ADAPTATION_KINDS),
        is_later=True,
    )
    split: str = option(
        "valid",
        "utterances of asr and tts: held out, or those of the training",
        choices=("valid", "train"),
        needs=_IF_ADAPTED,
        is_later=True,
    )
    max_utterances: int = option(
        0, "utterances of asr and tts at most; 0 takes all", low=0, needs=_IF_ADAPTED, is_later=True
    )
    beams: int = option(
        1, "answers of asr and tts that are followed at a time; 1 is greedy", low=1, needs=_IF_ADAPTED, is_later=True
    )
    recognise: str = option(
        "pocketsphinx",
        "recogniser that hears what tts says",
        choices=RECOGNISERS,
        needs="eval.task=tts",
        is_later=True,
    )
    recogniser_weights: str | None = option(
        None,
        "folder of faster-whisper's model, in the format of CTranslate2",
        path="folder",
        needs="eval.recognise=faster-whisper",
        is_later=True,
    )

    def rules(self) -> list[str]:
        """The recogniser has its weights, and one thing is evaluated."""
        found = []
        if self.recognise == "faster-whisper" and self.recogniser_weights is None:
            found.append("eval.recognise=faster-whisper: say where its model lies with eval.recogniser_weights=FOLDER")
        if self.task != "scores" and self.benchmark is not None:
            found.append(f"eval.task={self.task} with eval.benchmark=: a benchmark is scored; leave one of them out")
        return found
