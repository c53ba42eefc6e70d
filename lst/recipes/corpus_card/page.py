"""The corpus card as a page: a pure function of its numbers, laid out by the templates of this room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from lst.recipes.corpus_card.documents import PAPER_SPEECH_SHARE
from lst.recipes.corpus_card.plots import durations_plot, scores_plot
from lst.recipes.report.page import Section, page
from lst.recipes.report.plots import length_plot, unit_frequency_plot

STRATEGY_NAMES = {
    "static": "static",
    "aligned_sil_separate": "aligned, sil-sep",
    "aligned_sil_merged": "aligned, sil-merged",
    "bpe_aligned": "BPE-aligned",
    "mixed": "mixed",
}
SPOKEN_SPLITS = ("train", "valid")
_QUANTILES = {
    "word_score_quantiles": "score of a word",
    "utterance_score_quantiles": "mean score of an utterance",
    "utterance_words_per_second_quantiles": "words a second",
}


class Quantiles(NamedTuple):
    """Quantiles of one number of a split, by share."""

    split: str
    name: str
    by_share: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class AlignmentSection(Section):
    """How well words fit the audio, with quantiles where words are aligned; and what was left out."""

    quantiles: Sequence[Quantiles]


def card_page(card: dict[str, Any]) -> str:
    """The HTML page of a card's numbers, which ``lst.recipes.corpus_card.card`` lists."""
    badge = card["speech"] if card["is_synthesised"] else ""
    sections = [
        Section("sizes", "Sizes and rates", badge),
        Section("durations", "Durations and speakers", badge, plots=_duration_plots(card)),
        Section("units", "Speech units", badge, plots=_unit_plots(card)),
        _alignment(card, badge),
        Section("patches", "Patches", badge, plots=_patch_plots(card)),
        Section("text", "Text and documents", badge),
        Section("provenance", "Provenance", badge),
    ]
    return page(
        "lst.recipes.corpus_card",
        "card.html",
        sections,
        card=card,
        is_sample=card["sample"]["num_utterances"] < card["sample"]["of"],
        strategy_names=STRATEGY_NAMES,
        paper_speech_share=PAPER_SPEECH_SHARE,
        settings_json=json.dumps(card["provenance"]["made_from"], indent=2, ensure_ascii=False),
    )


def _duration_plots(card: dict[str, Any]) -> dict[str, Markup]:
    splits = card["splits"]
    has_speech = any(splits[split]["duration_s_quantiles"] for split in SPOKEN_SPLITS)
    return {"durations": durations_plot(splits)} if has_speech else {}


def _unit_plots(card: dict[str, Any]) -> dict[str, Markup]:
    train, valid = (card["splits"][split] for split in SPOKEN_SPLITS)
    if not train["num_units"]:
        return {}
    kinds = {"runs of one unit": "run", "words": "word", "silences": "silence"}
    lengths = length_plot(
        {name: counts for name, kind in kinds.items() if (counts := train[f"{kind}_length_counts"])},
        card["provenance"]["unit_rate_hz"],
        "runs",
        "units",
        "% of each kind",
        "histograms of the lengths of runs of one unit, of words and of silences",
        one_scale=False,
    )
    frequencies = unit_frequency_plot(train["unit_counts"], valid["unit_counts"], card["provenance"]["num_units"])
    return {"frequencies": frequencies, "lengths": lengths}


def _alignment(card: dict[str, Any], badge: str) -> AlignmentSection:
    splits = card["splits"]
    quantiles = [
        Quantiles(split, name, by_share)
        for split in SPOKEN_SPLITS
        for key, name in _QUANTILES.items()
        if (by_share := splits[split][key])
    ]
    has_scores = any(splits[split]["word_score_quantiles"] for split in SPOKEN_SPLITS)
    plots = {"scores": scores_plot(splits)} if has_scores else {}
    return AlignmentSection("alignment", "Alignment and what is left out", badge, plots=plots, quantiles=quantiles)


def _patch_plots(card: dict[str, Any]) -> dict[str, Markup]:
    """Histograms of interleaved and of speech documents, where these hold speech: documents of few words may not."""
    patches = card["patches"]
    return {
        kind: length_plot(
            {
                STRATEGY_NAMES[name]: counts
                for name, kinds in patches.items()
                if (counts := kinds[kind].get("length_counts"))
            },
            # The rate of the units that are cut: lower where a run of one unit counts once.
            patches["static"][kind]["mean_units"] / patches["static"][kind]["mean_s"],
            f"patches-{kind}",
            "units a patch",
            "% of speech patches",
            f"histograms of patch lengths by strategy in {documents} documents",
        )
        for kind, documents in (("interleaved", "interleaved"), ("speech", "speech-alone"))
        if patches["static"][kind]["num_speech_patches"]
    }
