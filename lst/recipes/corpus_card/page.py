"""The corpus card as a page: a pure function of its numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lst.recipes.corpus_card.documents import PAPER_SPEECH_SHARE
from lst.recipes.corpus_card.plots import durations_plot, scores_plot
from lst.recipes.report.corpus import STATISTICS_ROWS, NumberRow, hours_text, statistics_table
from lst.recipes.report.page import (
    Html,
    Section,
    bold,
    caption,
    code,
    element,
    figure,
    head,
    joined,
    page,
    paragraph,
    table,
)
from lst.recipes.report.plots import length_plot, unit_frequency_plot

# Rows of the first table: the report's, with those that only the card has behind the row they belong to.
_MORE_ROWS: dict[str, tuple[NumberRow, ...]] = {
    "num_words": (("num_word_types", "different words", "{:,}".format),),
    "units_per_second": (
        ("units_per_second_deduplicated", "units a second, repetitions joined", "{:.2f}".format),
        ("mean_run_units", "mean run of one unit, units", "{:.2f}".format),
    ),
}
_UNIT_ROWS: tuple[NumberRow, ...] = (
    ("num_distinct_units", "different units", "{:,}".format),
    ("num_unused_units", "units never used", "{:,}".format),
    ("unit_entropy_bits", "entropy, bits a unit", "{:.3f}".format),
    ("unit_perplexity", "perplexity", "{:.1f}".format),
)
_TEXT_ROWS: tuple[NumberRow, ...] = (
    ("num_text_pieces", "BPE pieces", "{:,}".format),
    ("num_characters", "characters", "{:,}".format),
    ("pieces_per_word", "BPE pieces a word", "{:.2f}".format),
    ("characters_per_word", "characters a word, spaces and all", "{:.2f}".format),
    ("characters_per_piece", "characters a BPE piece", "{:.2f}".format),
    ("bytes_per_piece", "bytes a BPE piece", "{:.2f}".format),
)
STRATEGY_NAMES = {
    "static": "static",
    "aligned_sil_separate": "aligned, sil-sep",
    "aligned_sil_merged": "aligned, sil-merged",
    "bpe_aligned": "BPE-aligned",
    "mixed": "mixed",
}
KIND_NAMES = {"interleaved": "interleaved", "text": "text alone", "speech": "speech alone"}
_PATCHED_NAMES = {"interleaved": "interleaved", "speech": "speech-alone"}
SPLIT_NAMES = {"train": "training", "valid": "held out"}


def card_page(card: dict[str, Any]) -> str:
    """The HTML page of a card's numbers, which ``lst.recipes.corpus_card.card`` lists."""
    sections = [
        _sizes(card),
        _durations(card),
        _units(card),
        _alignment(card),
        _patches(card),
        _text(card),
        _provenance(card),
    ]
    bottom = joined(
        f"Corpus card, version {card['version']}, fingerprint ",
        code(card["fingerprint"]),
        ", by ",
        code("lst card"),
        ". The numbers are in ",
        code("card.json"),
        " too. This page is one file.",
    )
    return page(f"{card['title']}: corpus card", _top(card), sections, bottom)


def _section(card: dict[str, Any], name: str, title: str, *parts: str) -> Section:
    """A part of the page; what is of synthesised speech says so beside its title."""
    return Section(name, title, joined(*parts), card["speech"] if card["is_synthesised"] else "")


def _top(card: dict[str, Any]) -> Html:
    splits = card["splits"]
    hours = sum(splits[split]["hours"] for split in ("train", "valid"))
    num_utterances = sum(splits[split]["num_utterances"] for split in ("train", "valid"))
    num_texts, words = splits["text"]["num_utterances"], sum(splits[split]["num_words"] for split in splits)
    warning = (
        " All of its speech is synthesised: its numbers say little about recordings of people."
        if card["is_synthesised"]
        else ""
    )
    left_out = f"{card['left_out']['num']:,} left out" if card["left_out"]["num"] else "none left out"
    licence = f"Licence: {card['licence']}." if card["licence"] else "Its licence is not stated."
    lead = paragraph(
        bold(f"{hours_text(hours)} of {card['speech']}"),
        f" in {num_utterances:,} utterances and {num_texts:,} texts, "
        f"{words:,} words; {left_out}. Made from {card['description']}.{warning} {licence}",
        class_="lead",
    )
    return joined(
        paragraph("Latent speech-text models · corpus card", class_="eyebrow"), element("h1", card["title"]), lead
    )


def _share(value: float | None, style: str = ".1%") -> str:
    return "–" if value is None else format(value, style)


def _sizes(card: dict[str, Any]) -> Section:
    rows = [row for first in STATISTICS_ROWS for row in (first, *_MORE_ROWS.get(first[0], ()))]
    text = caption(
        bold("The splits"),
        f". All rates and lengths are of {card['speech']}; words and silences are as the aligner "
        "found them. Different words are counted with case folded and without punctuation at their ends. With "
        "repetitions joined, a run of one unit counts once, as a model of de-duplicated units reads it.",
    )
    return _section(card, "sizes", "Sizes and rates", statistics_table(card["splits"], rows), text)


def _durations(card: dict[str, Any]) -> Section:
    splits = card["splits"]
    if not any(splits[split]["duration_s_quantiles"] for split in SPLIT_NAMES):
        return _section(card, "durations", "Durations and speakers", paragraph("There is no speech."))
    plot = figure(
        durations_plot(splits),
        bold("Durations of utterances, and how much each speaker says"),
        f" in {card['speech']}. Speakers are sorted, each split by itself; where there are very many, some are shown, "
        "evenly spaced.",
    )
    header = [head(""), *(head(name) for name in SPLIT_NAMES.values())]
    rows = [
        [head(name, scope="row"), *(_quantile(splits[split], share) for split in SPLIT_NAMES)]
        for name, share in (
            ("shortest utterance, s", "0"),
            ("median utterance, s", "0.5"),
            ("95 % are shorter than, s", "0.95"),
            ("longest utterance, s", "1"),
        )
    ]
    speakers = [splits[split]["speakers"] for split in SPLIT_NAMES]
    rows += [
        [head("speakers", scope="row"), *(f"{found['num_speakers']:,}" for found in speakers)],
        [head("most of one speaker", scope="row"), *(_time(found["hours_most"]) for found in speakers)],
        [head("that is, of the split", scope="row"), *(_share(found["share_of_most"]) for found in speakers)],
        [head("median speaker", scope="row"), *(_time(found["hours_median"]) for found in speakers)],
        [head("least of one speaker", scope="row"), *(_time(found["hours_least"]) for found in speakers)],
        [head("of unknown speakers", scope="row"), *(_time(s["hours_of_unknown_speakers"]) for s in speakers)],
    ]
    both = card["num_speakers_in_train_and_valid"]
    note = paragraph(
        "No speaker is both trained on and held out."
        if both == 0
        else f"{both:,} speaker{'s are' if both > 1 else ' is'} both trained on and held out: held-out numbers are not "
        "of new voices alone."
    )
    return _section(card, "durations", "Durations and speakers", plot, table(header, rows), note)


def _time(hours: float | None) -> str:
    return "–" if hours is None else hours_text(hours)


def _quantile(numbers: dict[str, Any], share: str) -> str:
    quantiles = numbers["duration_s_quantiles"]
    return "–" if quantiles is None else f"{quantiles[share]:.2f}"


def _units(card: dict[str, Any]) -> Section:
    splits, facts = card["splits"], card["provenance"]
    train = splits["train"]
    if not train["num_units"]:
        return _section(card, "units", "Speech units", paragraph("There is no speech to train on."))
    frequencies = figure(
        unit_frequency_plot(train["unit_counts"], splits["valid"]["unit_counts"], facts["num_units"]),
        bold("How often each speech unit occurs"),
        f" in {card['speech']}, sorted by the training split; the line is "
        "the same units in held-out speech. Perplexity is the number of equally frequent units that would be as hard "
        f"to guess, of {facts['num_units']:,} in the codebook.",
    )
    kinds = {"runs of one unit": "run", "words": "word", "silences": "silence"}
    lengths = figure(
        length_plot(
            {name: counts for name, kind in kinds.items() if (counts := train[f"{kind}_length_counts"])},
            facts["unit_rate_hz"],
            "runs",
            "units",
            "% of each kind",
            "histograms of the lengths of runs of one unit, of words and of silences",
            one_scale=False,
        ),
        bold("How long a unit lasts, a word, and a silence"),
        f" in {card['speech']} to train on. Units come "
        f"{facts['unit_rate_hz']} a second; the dashed line is the mean; the rightmost bar holds all longer ones.",
    )
    return _section(card, "units", "Speech units", frequencies, statistics_table(splits, _UNIT_ROWS), lengths)


_ALIGNMENT_QUANTILES = {
    "word_score_quantiles": "score of a word",
    "utterance_score_quantiles": "mean score of an utterance",
    "utterance_words_per_second_quantiles": "words a second",
}


def _of_words(splits: dict[str, Any], spoken: list[str]) -> str:
    """What share of words has times of characters, and what share is pronounced by rule."""
    said = []
    for split in spoken:
        by_rule = splits[split]["pronounced_by_rule_share"]
        rules = "" if by_rule is None else f", and pocketsphinx' dictionary lacks {by_rule:.1%} of them"
        share = splits[split]["character_aligned_share"] or 0.0
        said.append(f"{share:.1%} of the words ({SPLIT_NAMES[split]}) have times of their characters{rules}.")
    return " ".join(said)


def _alignment(card: dict[str, Any]) -> Section:
    splits, left_out = card["splits"], card["left_out"]
    spoken = [split for split in SPLIT_NAMES if splits[split]["utterance_words_per_second_quantiles"]]
    parts: list[str] = []
    if any(splits[split]["word_score_quantiles"] for split in spoken):
        parts.append(
            figure(
                scores_plot(splits),
                bold("How well words fit the audio"),
                f" in {card['speech']}, as the aligner ",
                code(card["provenance"]["aligner"]),
                " scores them (higher is better; scores of different aligners do not compare).",
            )
        )
    else:
        parts.append(paragraph("No word has a score."))
    if spoken:
        shares = list(splits[spoken[0]]["utterance_words_per_second_quantiles"])
        columns = [(split, kind) for split in spoken for kind in _ALIGNMENT_QUANTILES if splits[split][kind]]
        rows = [
            [
                head(f"{100 * float(share):g} % lie below", scope="row"),
                *(f"{splits[split][kind][share]:.4g}".replace("-", "−") for split, kind in columns),
            ]
            for share in shares
        ]
        header = [head(SPLIT_NAMES[split], small=_ALIGNMENT_QUANTILES[kind]) for split, kind in columns]
        parts += [
            element(
                "details",
                element("summary", "Quantiles, within half a per cent, to choose limits by"),
                paragraph(
                    "Of utterances, data.align.min_score limits the mean score of the words, and "
                    "data.align.max_words_per_second how fast they are spoken."
                ),
                table([head(""), *header], rows),
            ),
            paragraph(_of_words(splits, spoken)),
        ]
    return _section(
        card, "alignment", "Alignment and what is left out", *parts, element("h3", "Left out"), *_left_out(left_out)
    )


def _left_out(left_out: dict[str, Any]) -> list[Html]:
    if not left_out["num"]:
        return [paragraph("Nothing: every utterance and text of the source is used.")]
    text = paragraph(
        f"{left_out['num']:,} utterances or texts are not used, {_share(left_out['share'], '.2%')} of all; "
        f"{left_out['num_unaligned']:,} of them because they could not be encoded or aligned, "
        f"{_share(left_out['unaligned_share'], '.2%')} of the spoken ones. The full list is ",
        code("left_out.jsonl"),
        " beside this page. What differs from one to the next is written …",
    )
    rows = [
        [
            f"{row['count']:,}",
            element("td", row["reason"], class_="wrap"),
            element("td", ", ".join(row["examples"]), class_="wrap"),
        ]
        for row in left_out["reasons"]
    ]
    return [text, table([head("count"), head("reason", class_="left"), head("for example", class_="left")], rows)]


def _sample_text(card: dict[str, Any]) -> str:
    sample = card["sample"]
    if sample["num_utterances"] == sample["of"]:
        return f"Numbers are of all {sample['of']:,} training utterances ({card['speech']})."
    return (
        f"Numbers are of a sample: {sample['num_utterances']:,} of the {sample['of']:,} training utterances "
        f"({card['speech']}), drawn with seed {sample['seed']}."
    )


def _patches(card: dict[str, Any]) -> Section:
    patches, cut = card["patches"], card["patching"]
    title = "Patches"
    if not patches["static"]["speech"]["num_speech_patches"]:
        return _section(card, "patches", title, paragraph("There is no aligned speech to cut."))
    is_sample = card["sample"]["num_utterances"] < card["sample"]["of"]
    longest = f" and at most {cut['max_patch']} units a patch" if cut["max_patch"] else ""
    intro = paragraph(
        f"Static patching joins {cut['static_size']} units{longest}; aligned patching makes a patch of each word, with "
        "silences as patches of their own (sil-sep) or joined to the word before (sil-merged), or of each BPE piece of "
        "a word; mixed patching is static or aligned (sil-sep), batch by batch. Text is never grouped. "
        + ("A run of one unit counts once here. " if cut["deduplicate"] else ""),
        _sample_text(card),
    )
    of_what = f" in a sample of {card['speech']}" if is_sample else f" in {card['speech']}"
    plots = [
        figure(
            length_plot(
                {
                    STRATEGY_NAMES[name]: counts
                    for name, kinds in patches.items()
                    if (counts := kinds[kind].get("length_counts"))
                },
                # Of these units, of which a run of one may count once.
                patches["static"][kind]["mean_units"] / patches["static"][kind]["mean_s"],
                f"patches-{kind}",
                "units a patch",
                "% of speech patches",
                f"histograms of patch lengths by strategy in {_PATCHED_NAMES[kind]} documents",
            ),
            bold(f"Patches of {_PATCHED_NAMES[kind]} documents"),
            f"{of_what}, in units. Mind the different scales.{more}",
        )
        for kind, more in (
            # Documents of few words may hold no speech.
            ("interleaved", " Each span of speech is cut for itself, and a silence at its edge is cut in half."),
            ("speech", " Whole utterances as speech."),
        )
        if patches["static"][kind]["num_speech_patches"]
    ]
    return _section(
        card,
        "patches",
        title,
        intro,
        *plots,
        _patch_table(patches),
        caption(
            bold("Patches by strategy"),
            f"{of_what}. Positions a token: how much shorter the backbone's sequence is than "
            "the document, its text included.",
        ),
    )


_PATCH_KEYS = ("mean_units", "speech_patches_per_second", "positions_per_token")


def _patch_table(patches: dict[str, Any]) -> Html:
    header = [
        head("strategy"),
        *(
            head(name, small=kind)
            for kind in ("interleaved", "speech alone")
            for name in ("mean, units", "a second", "positions a token")
        ),
    ]
    rows = []
    for name, kinds in patches.items():
        cells = []
        for kind in ("interleaved", "speech"):
            found = kinds[kind]
            cells += [_share(found[key], ".2f") for key in _PATCH_KEYS]
        rows.append([head(STRATEGY_NAMES[name], scope="row"), *cells])
    return table(header, rows)


def _text(card: dict[str, Any]) -> Section:
    documents, mixture, sample = card["documents"], card["mixture"], card["sample"]
    texts = "transcripts" if sample["texts_are_transcripts"] else "written texts"
    note = (
        ""
        if sample["num_texts"] == sample["of_texts"] or sample["texts_are_transcripts"]
        else f" Text documents are of a sample of {sample['num_texts']:,} of the {sample['of_texts']:,} written texts."
    )
    rows = [
        [
            head(KIND_NAMES[kind], scope="row"),
            f"{found['num_documents']:,}",
            _share(found["mean_tokens"], ",.1f"),
            _share(found["speech_share"]),
            f"{mixture['kinds'][kind]['weight']:g}",
            _share(mixture["kinds"][kind]["token_share"]),
        ]
        for kind, found in documents.items()
    ]
    header = [
        head("documents"),
        head("counted"),
        head("tokens each"),
        head("speech, share of tokens"),
        head("weight in the mixture"),
        head("share of its tokens"),
    ]
    share = _share(documents["interleaved"]["speech_share"], ".3f")
    total = _share(mixture["speech_share"])
    return _section(
        card,
        "text",
        "Text and documents",
        statistics_table(card["splits"], _TEXT_ROWS),
        caption(bold("Text"), f": transcripts of {card['speech']}, and texts without speech."),
        table(header, rows),
        caption(
            bold("Documents"),
            f" as a training draws them, text documents from {texts}; markers count as tokens. In "
            f"interleaved documents {share} of the tokens are speech ({card['speech']}; the paper's corpus has "
            f"{PAPER_SPEECH_SHARE}), in the whole mixture {total}. ",
            _sample_text(card),
            note,
        ),
    )


def _provenance(card: dict[str, Any]) -> Section:
    facts = card["provenance"]
    rows: Sequence[tuple[str, str]] = (
        ("corpus", card["description"]),
        ("speech", card["speech"]),
        ("licence", card["licence"] or "not stated"),
        ("aligner", facts["aligner"]),
        ("codebook of speech units, SHA-256", facts["units_sha256"]),
        ("text tokenizer, SHA-256", facts["text_sha256"]),
        (
            "joint vocabulary",
            f"{facts['vocabulary']}: {facts['num_text_pieces']:,} text pieces, {facts['num_units']:,} units, "
            f"{facts['unit_rate_hz']} a second",
        ),
        ("data fingerprint", facts["data"]),
        ("shards", f"{facts['num_shards']:,}, {facts['shard_bytes'] / 1e6:,.1f} MB"),
        ("seed of the documents and the sample", str(card["sample"]["seed"])),
    )
    return _section(
        card,
        "provenance",
        "Provenance",
        table(
            [head("what"), head("which", class_="left")],
            [[head(name, scope="row"), element("td", value, class_="wrap")] for name, value in rows],
        ),
        element(
            "details",
            element("summary", "All settings that the data was prepared with"),
            element("pre", json.dumps(facts["made_from"], indent=2, ensure_ascii=False), tabindex="0"),
        ),
    )
