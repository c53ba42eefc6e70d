"""The corpus card's numbers against slow direct counts of the shards' bytes, and its sketches by hand."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.configs.compose import build_config
from lst.data.corpora.rows import UNKNOWN_SPEAKER
from lst.data.documents.interleave import document_generator, draw_spans, span_frames
from lst.data.prepared import PreparedData
from lst.data.shards import SHARD_FOLDER
from lst.data.text import pronouncing_dictionary
from lst.data.utterance import Utterance
from lst.model.batch import SPEECH
from lst.recipes.corpus_card import documents as corpus_card_documents
from lst.recipes.corpus_card.card import card_numbers
from lst.recipes.corpus_card.counts import MAX_DURATION_BINS, CardCounts, QuantileSketch, unit_runs, word_type
from lst.recipes.corpus_card.documents import mixture_numbers
from lst.recipes.corpus_card.page import card_page
from lst.runs.fitted_patching import plain_patching
from lst.runs.folder import open_data
from lst.tokenizers.text import TextTokenizer


@pytest.fixture(scope="module")
def shards(smoke_data: Path) -> dict[str, list[tuple[dict[str, Any], list[int]]]]:
    """Records and units of every split, read from the tars by hand."""
    found: dict[str, list[tuple[dict[str, Any], list[int]]]] = {"train": [], "valid": [], "text": []}
    for path in sorted((smoke_data / "data" / SHARD_FOLDER).glob("*.tar")):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        for name, content in files.items():
            if name.endswith(".json"):
                units = np.load(io.BytesIO(files[name.removesuffix("json") + "units.npy"]))
                record = json.loads(content)
                columns = [record[f"word{column}"] for column in ("s", "_starts", "_ends", "_scores")]
                record["words"] = list(zip(*columns, strict=True))
                found[path.name.partition("-")[0]].append((record, units.tolist()))
    return found


@pytest.mark.parametrize("split", ["train", "valid", "text"])
def test_numbers_of_a_split_equal_a_slow_count(card, shards, smoke_data, split):
    tokenizer = TextTokenizer.load(smoke_data / "data" / "text.model")
    counts, runs, durations_s, scores = Counter(), Counter(), [], []
    utterance_scores, rates, known = [], [], 0
    words, types, characters, pieces = 0, set(), 0, 0
    word_lengths, silences, speakers = Counter(), Counter(), defaultdict(float)
    for record, units in shards[split]:
        texts = record["text"].split()
        words += len(texts)
        types |= {text.strip(".,;:!?\"'").lower() for text in texts}
        characters += len(record["text"])
        pieces += len(tokenizer.encode(record["text"]))
        if not units:
            continue
        durations_s.append(record["duration_s"])
        speakers[record["speaker"]] += record["duration_s"]
        run = 0
        for place, unit in enumerate(units):
            counts[unit] += 1
            run += 1
            if place + 1 == len(units) or units[place + 1] != unit:
                runs[run] += 1
                run = 0
        is_word = [False] * len(units)
        for _, start, end, score in record["words"]:
            word_lengths[end - start] += 1
            scores.append(score)
            is_word[start:end] = [True] * (end - start)
        silences["frames"] += is_word.count(False)
        own = [score for _, _, _, score in record["words"]]
        utterance_scores.append(sum(own) / len(own))
        rates.append(len(own) / record["duration_s"])
        known += sum(text.strip(".,;:!?\"'").lower() in pronouncing_dictionary() for text in texts)
    found = card["splits"][split]
    seconds = sum(durations_s)
    num_units = sum(counts.values())
    assert found["num_utterances"] == len(shards[split]) > 0
    assert found["hours"] == pytest.approx(seconds / 3600)
    assert found["num_words"] == words
    assert found["num_word_types"] == len(types)
    assert (found["num_characters"], found["num_text_pieces"]) == (characters, pieces)
    assert found["pieces_per_word"] == pytest.approx(pieces / words)
    assert found["characters_per_piece"] == pytest.approx(characters / pieces)
    assert (found["num_units"], found["num_units_deduplicated"]) == (num_units, sum(runs.values()))
    assert [(n, c) for n, c in enumerate(found["run_length_counts"]) if c] == sorted(runs.items())
    assert [(n, c) for n, c in enumerate(found["word_length_counts"]) if c] == sorted(word_lengths.items())
    assert found["speakers"]["num_speakers"] == len(speakers)
    assert found["num_scored_words"] == len(scores)
    if split == "text":
        assert found["units_per_second"] is found["silence_share"] is found["word_score_quantiles"] is None
        return
    assert found["unit_counts"] == [counts[unit] for unit in range(20)]
    assert found["num_unused_units"] == 20 - len(counts)
    entropy = -sum(c / num_units * math.log2(c / num_units) for c in counts.values())
    assert found["unit_entropy_bits"] == pytest.approx(entropy)
    assert found["unit_perplexity"] == pytest.approx(2**entropy)
    assert found["units_per_second"] == pytest.approx(num_units / seconds)
    assert found["units_per_second_deduplicated"] == pytest.approx(sum(runs.values()) / seconds)
    assert found["words_per_second"] == pytest.approx(len(scores) / seconds)
    assert found["silence_share"] == pytest.approx(silences["frames"] / num_units)
    assert found["duration_s_quantiles"]["0"] == min(durations_s)
    assert found["duration_s_quantiles"]["0.5"] == sorted(durations_s)[(len(durations_s) - 1) // 2]
    assert found["duration_s_quantiles"]["1"] == max(durations_s)
    histogram = found["duration_histogram"]
    assert (
        histogram["counts"]
        == np.histogram(durations_s, np.arange(len(histogram["counts"]) + 1) * histogram["bin_s"])[0].tolist()
    )
    assert found["speakers"]["hours_by_rank"] == pytest.approx(sorted((s / 3600 for s in speakers.values()), reverse=1))
    assert found["character_aligned_share"] == 0
    assert found["pronounced_by_rule_share"] == pytest.approx(1 - known / words)
    for name, values in (
        ("word_score", scores),
        ("utterance_score", utterance_scores),
        ("utterance_words_per_second", rates),
    ):
        for share, value in found[f"{name}_quantiles"].items():
            exact = np.quantile(values, float(share), method="lower")
            assert value == pytest.approx(exact, rel=0.006), (name, share)


def slow_lengths(segments: list[tuple[bool, int]], strategy: str, size: int) -> list[int]:
    """Lengths of the patches of one span of speech, from its words and silences, (is silence, units) each."""
    if strategy == "static":
        left, found = sum(units for _, units in segments), []
        while left > 0:
            found.append(min(size, left))
            left -= size
        return found
    if strategy == "aligned_sil_merged":
        merged: list[list[Any]] = []
        for is_silence, units in segments:
            # A silence joins what is before it; one that opens the span, the word after it.
            if merged and (is_silence or merged[-1][0]):
                merged[-1] = [False, merged[-1][1] + units]
            else:
                merged.append([is_silence, units])
        return [units for _, units in merged]
    return [units for _, units in segments if units]


def slow_piece_units(tokenizer: TextTokenizer, word: str, units: int) -> list[int]:
    """Units of each BPE piece of a word, all characters of which last equally long."""
    characters = tokenizer.piece_characters([word])[0]
    ends = [math.floor(units * sum(characters[: n + 1]) / sum(characters) + 0.5) for n in range(len(characters))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("strategy", ["static", "aligned_sil_separate", "aligned_sil_merged", "bpe_aligned"])
@pytest.mark.parametrize("kind", ["interleaved", "speech"])
def test_patch_lengths_equal_a_slow_count(card, config, strategy, kind):
    data = open_data(config)
    expected: Counter[int] = Counter()
    for utterance in data.train:
        num_words = len(utterance.words)
        spans = [(SPEECH, 0, num_words)]
        if kind == "interleaved":
            spans = draw_spans(num_words, config.data.interleave, document_generator(config.seed, 0, utterance.id))
        for modality, first, last in spans:
            if modality != SPEECH:
                continue
            start, end = span_frames(utterance, first, last)
            segments = []
            for word, low, high in utterance.segments():
                units = min(high, end) - max(low, start)
                if units <= 0:
                    continue
                if strategy == "bpe_aligned" and word >= 0:
                    text = utterance.words[word].text
                    segments += [(False, n) for n in slow_piece_units(data.tokenizer, text, units)]
                else:
                    segments.append((word < 0, units))
            expected.update(slow_lengths(segments, strategy, config.patching.static_size))
    found = card["patches"][strategy][kind]
    assert {n: c for n, c in enumerate(found["length_counts"]) if c} == dict(expected)
    mean = sum(n * c for n, c in expected.items()) / sum(expected.values())
    assert found["mean_units"] == pytest.approx(mean)
    assert found["mean_s"] == pytest.approx(mean / 25)
    assert found["speech_patches_per_second"] == pytest.approx(25 / mean)


def test_tokens_of_documents_and_mixture_equal_a_slow_count(card, config):
    data = open_data(config)
    builder = plain_patching(config.patching, data).builder(config, data)
    made = {
        "interleaved": [builder.interleaved(utterance, 0) for utterance in data.train],
        "text": [builder.text(utterance) for utterance in data.text],
        "speech": [builder.speech(utterance) for utterance in data.train],
    }
    first_special, first_unit = data.vocabulary.num_text, data.vocabulary.first_unit_id
    weights = {"interleaved": 1.0, "text": 0.5, "speech": 1.0}
    tokens, speech = {}, {}
    for kind, documents in made.items():
        ids = [index for document in documents for index in document.token_ids.tolist()]
        found = card["documents"][kind]
        speech[kind] = sum(index >= first_unit for index in ids) / len(ids)
        tokens[kind] = len(ids) / len(documents)
        assert found["num_documents"] == len(documents) > 0
        assert found["num_text_tokens"] == sum(index < first_special for index in ids)
        assert found["num_special_tokens"] == sum(first_special <= index < first_unit for index in ids)
        assert found["speech_share"] == pytest.approx(speech[kind])
    total = sum(weights[kind] * tokens[kind] for kind in weights)
    for kind, weight in weights.items():
        numbers = card["mixture"]["kinds"][kind]
        assert numbers == {"weight": weight, "token_share": pytest.approx(weight * tokens[kind] / total)}
    share = sum(weights[kind] * tokens[kind] * speech[kind] for kind in weights) / total
    assert card["mixture"]["speech_share"] == pytest.approx(share)


def test_a_run_of_one_unit_counts_once_where_models_read_it_so(card, shards, config):
    once = card_numbers(replace(config, patching=replace(config.patching, deduplicate=True)), open_data(config))
    assert once["patching"]["deduplicate"]
    assert once["splits"] == card["splits"]
    assert once["sample"]["is_whole"]
    kept = sum(1 + sum(a != b for a, b in pairwise(units)) for _, units in shards["train"])
    found, plain = once["patches"]["static"]["speech"], card["patches"]["static"]["speech"]
    assert sum(place * count for place, count in enumerate(found["length_counts"])) == kept
    assert sum(place * count for place, count in enumerate(plain["length_counts"])) > kept
    # The same speech, in fewer and so longer units.
    seconds, plain_seconds = (one["num_speech_patches"] * one["mean_s"] for one in (found, plain))
    assert seconds == pytest.approx(plain_seconds)
    page = card_page(once)
    assert "A run of one unit counts once here." in page
    assert f"mean {found['mean_units']:.2f} units, {1000 * found['mean_s']:.0f} ms" in page


def test_mixed_patching_is_static_and_aligned_in_equally_many_patches(card):
    for kind in ("interleaved", "speech"):
        static, aligned = (card["patches"][name][kind] for name in ("static", "aligned_sil_separate"))
        # A million patches of each, of which so many are speech.
        patches = [1e6 * found["num_speech_patches"] / found["positions_per_token"] for found in (static, aligned)]
        units = [n * found["mean_units"] for n, found in zip(patches, (static, aligned), strict=True)]
        assert card["patches"]["mixed"][kind]["mean_units"] == pytest.approx(sum(units) / sum(patches))
        tokens = sum(1 / found["positions_per_token"] for found in (static, aligned))
        assert card["patches"]["mixed"][kind]["positions_per_token"] == pytest.approx(2 / tokens)


def test_documents_are_counted_alike_however_many_are_cut_together(card, config, monkeypatch):
    monkeypatch.setattr(corpus_card_documents, "CHUNK_DOCUMENTS", 3)
    numbers = card_numbers(config, open_data(config))
    assert json.loads(json.dumps(numbers)) == card


def test_a_mixture_without_documents_of_a_wanted_kind_has_no_shares():
    documents = {kind: {"mean_tokens": None, "speech_share": None} for kind in ("interleaved", "text", "speech")}
    documents["text"] = {"mean_tokens": 9.0, "speech_share": 0.0}
    mix = build_config([]).data.mix
    assert mixture_numbers(documents, mix)["kinds"]["text"] == {"weight": mix.text, "token_share": None}
    alone = mixture_numbers(documents, replace(mix, interleaved=0.0, speech=0.0))
    assert alone["kinds"]["text"]["token_share"] == 1.0
    assert alone["speech_share"] == 0.0


def test_weights_by_tokens_are_shares_of_tokens_whatever_documents_are_long():
    documents = {
        "interleaved": {"mean_tokens": 50.0, "speech_share": 0.75},
        "text": {"mean_tokens": 9.0, "speech_share": 0.0},
        "speech": {"mean_tokens": 700.0, "speech_share": 0.9},
    }
    found = mixture_numbers(documents, build_config(["data=published_mix"]).data.mix)
    assert found["kinds"]["interleaved"]["token_share"] == pytest.approx(1 / 3)
    assert found["kinds"]["text"]["token_share"] == pytest.approx(2 / 3)
    assert found["speech_share"] == pytest.approx(0.25)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-1e5, 1e5).filter(lambda x: x == 0 or abs(x) > 1e-5), min_size=1, max_size=60),
    st.integers(1, 60),
)
def test_sketched_quantiles_are_within_half_a_per_cent_and_need_no_order(values, num_first):
    shares = (0.0, 0.1, 0.5, 0.9, 1.0)
    array = np.array(values)
    sketch, other = QuantileSketch(), QuantileSketch()
    sketch.add(array[:num_first])
    sketch.add(array[num_first:])
    other.add(array[::-1])
    assert sketch.quantiles(shares) == other.quantiles(shares)
    ranked = np.sort(array)
    expected = [ranked[int(share * (len(ranked) - 1))] for share in shares]
    assert sketch.quantiles(shares) == pytest.approx(expected, rel=0.0055, abs=1e-6)


def test_runs_and_word_types_by_hand():
    assert unit_runs(np.array([3, 3, 3, 0, 0, 65535], np.uint16)).tolist() == [3, 2, 1]
    assert unit_runs(np.zeros(0, np.uint16)).tolist() == []
    assert [word_type(word) for word in ("Don't,", "“STRASSE”", "straße", "—", "a-b.")] == [
        "don't",
        "strasse",
        "strasse",
        "",
        "a-b",
    ]


def test_long_utterances_get_wider_bins_and_unknown_speakers_are_nobody(smoke_data):
    counts = CardCounts(TextTokenizer.load(smoke_data / "data" / "text.model"))
    units = np.ones(4, np.uint16)
    for number, duration_s in enumerate((0.05, 7.99, 8.0, 3600.0)):
        counts.add(Utterance(str(number), UNKNOWN_SPEAKER, "a", duration_s, units))
    vocabulary = PreparedData(smoke_data / "data").vocabulary
    found = counts.numbers(vocabulary)
    histogram = found["duration_histogram"]
    assert len(histogram["counts"]) <= MAX_DURATION_BINS
    assert sum(histogram["counts"]) == 4
    assert histogram["counts"][int(3600 // histogram["bin_s"])] == 1
    assert found["speakers"]["num_speakers"] == 0
    assert found["speakers"]["hours_of_unknown_speakers"] == pytest.approx(3616.04 / 3600)
