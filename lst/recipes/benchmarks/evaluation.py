"""Speed of scoring questions on this machine: ``make bench-eval``.

Models of the quickstart's size with random weights score questions about the ``wide`` stories as simulated speech.
Contexts that are computed once for all their endings are compared with whole documents, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lst.configs.compose import build_config
from lst.data.prepare import prepare
from lst.evaluation import Item, Scorer, question_items, score_items
from lst.evaluation.likelihoods import item_documents
from lst.evaluation.results import DIRECTIONS, Direction
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.benchmarks.figures import Figures, interleaved_best_s
from lst.runs import ModelTokenizers, TrainedModel, open_data, plain_patching
from lst.runs.preparing import prepare_options

NUM_QUESTIONS, NUM_TURNS = 12, 3
STORIES = (
    *("corpus=simulated", "data.stories=wide", "data.num_spoken_stories=60", "data.num_text_stories=40"),
    f"data.num_questions={NUM_QUESTIONS}",
)
MODELS = {
    "baseline": ("model=baseline_quickstart", "patching=none"),
    "static": ("model=lst_quickstart", "patching=static"),
}
# Items a second with shared contexts, of all four directions together, over those of whole documents.
TARGET = 2.5


def main() -> None:
    """Runs the benchmark; writes ``runs/bench/eval.json``."""
    torch.set_num_threads(1)
    figures = Figures("eval")
    with TemporaryDirectory() as folder:
        for name, words in MODELS.items():
            scorer, items = _scorer(Path(folder), words)
            _measure(figures, name, scorer, items)
    figures.write()


def _scorer(folder: Path, words: Sequence[str]) -> tuple[Scorer, list[Item]]:
    """A model with random weights on prepared questions, and these questions."""
    config = build_config([f"run_dir={folder}", *STORIES, *words])
    prepare(folder / "data", prepare_options(config))
    data = open_data(config)
    model = LatentSpeechTextModel(config.model, data.vocabulary.size, 0).eval()
    tokenizers = ModelTokenizers.of(data)
    trained = TrainedModel("random", folder, model, plain_patching(config.patching, data), tokenizers, data)
    return Scorer.of(trained, config), question_items(data.questions, {part.id: part for part in data.question_parts})


def _measure(figures: Figures, name: str, scorer: Scorer, items: Sequence[Item]) -> None:
    whole = replace(scorer, shares_beginnings=False)
    groups: dict[str, tuple[Direction, ...]] = {direction: (direction,) for direction in DIRECTIONS}
    for label, directions in {**groups, "all four": DIRECTIONS}.items():
        seconds = interleaved_best_s(
            {
                "shared": partial(score_items, scorer, items, directions=directions),
                "whole": partial(score_items, whole, items, directions=directions),
            },
            NUM_TURNS,
            # Of the one thread: other programs on this machine change it little.
            time.process_time,
        )
        shared_s, whole_s = seconds["shared"], seconds["whole"]
        figures.add(f"{name}, {label}: items a second, contexts shared", len(items) / shared_s)
        figures.add(f"{name}, {label}: items a second, documents whole", len(items) / whole_s)
        target = TARGET if label == "all four" else None
        figures.add(f"{name}, {label}: shared over whole", whole_s / shared_s, target)
        figures.add(f"{name}, {label}: tokens computed, whole over shared", _token_ratio(scorer, items, directions))
    pairs = zip(score_items(scorer, items), score_items(whole, items), strict=True)
    worst = max(abs(shared["nats"] - alone["nats"]) / shared["num_tokens"] for shared, alone in pairs)
    figures.add(f"{name}: largest difference of a score, nats a token", worst, 1e-5, at_most=True)


def _token_ratio(scorer: Scorer, items: Sequence[Item], directions: Sequence[Direction]) -> float:
    """Tokens of whole documents over those that are left where each beginning is computed once."""
    documents = [one for item in items for one in item_documents(scorer.builder, item, directions)]
    beginnings = {tuple(document.token_ids[: scored.start].tolist()) for document, scored in documents}
    endings = sum(len(document.token_ids) - scored.start for document, scored in documents)
    return sum(len(document.token_ids) for document, _ in documents) / (sum(map(len, beginnings)) + endings)


if __name__ == "__main__":
    main()
