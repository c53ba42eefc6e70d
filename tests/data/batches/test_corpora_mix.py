"""Corpora that are mixed by weights: shares, limits, resuming, and a tag on every document."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from lst.data.batches import BatchLoader, CorpusPart, StreamPlan, mix_sources
from lst.data.batches.mixing import MixSource, Mixture
from lst.data.batches.stream import BatchStream
from lst.data.config import MixConfig
from lst.errors import UserError
from tests.data.batches.test_stream import SPOKEN, WRITTEN, make_plan, make_utterance, same, through_json

READ, TALKS = SPOKEN[:8], [make_utterance(index) for index in range(12, 16)]
# Documents are no longer than this many tokens.
LONGEST = 200


def plan_of(*parts: CorpusPart, mix: MixConfig | None = None, written: Any = (), **changes: Any) -> StreamPlan:
    spoken = [utterance for part in parts for utterance in part.utterances]
    sources = mix_sources(spoken, written, mix or MixConfig(1.0, 0.0, 1.0), corpora=parts)
    told = sorted(part.name for part in parts)
    return dataclasses.replace(
        make_plan(**{"mix_by": "tokens", **changes}), sources=sources, told_sources=[*told, "unnamed"]
    )


def tokens_by_corpus(tokens: dict[str, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, count in tokens.items():
        found[name.partition(":")[2]] += count
    return found


def test_weights_come_true_to_a_document_in_every_kind() -> None:
    """One to three of tokens, although the corpus with the greater weight has half as many utterances."""
    stream = BatchStream(plan_of(CorpusPart("read", READ, 1.0), CorpusPart("talks", TALKS, 3.0), row_patches=600))
    for _ in range(12):
        _, state = next(stream)
    tokens = state.source_tokens
    for kind in ("interleaved", "speech"):
        assert abs(3 * tokens[f"{kind}:read"] - tokens[f"{kind}:talks"]) <= 3 * LONGEST
    by_kind = [sum(count for name, count in tokens.items() if name.startswith(kind)) for kind in ("inter", "speech")]
    assert abs(by_kind[0] - by_kind[1]) <= LONGEST
    assert sum(by_kind) > 20_000


def test_a_corpus_gives_no_more_than_its_limit_and_kinds_keep_their_shares() -> None:
    limit = 10
    parts = CorpusPart("read", READ, 1.0), CorpusPart("talks", TALKS, 1.0, limit)
    plan = plan_of(*parts, mix=MixConfig(1.0, 1.0, 0.0), written=WRITTEN, num_streams=3, row_patches=200)
    with BatchLoader(plan) as loader:
        state = next(islice(loader, 29, None))[1]
    drawn: Counter[str] = Counter()
    for stream in state.streams:
        for name, count in stream.cursors.items():
            drawn[name.partition(":")[2]] += count
    assert drawn["talks"] == limit
    assert drawn["read"] > 5 * limit
    # Texts of their own are no part of a corpus, and have their half of the tokens to the end.
    for stream in state.streams:
        texts, others = stream.source_tokens["text"], sum(stream.source_tokens.values())
        assert abs(2 * texts - others) <= 2 * LONGEST


def test_that_a_corpus_has_dropped_out_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    parts = CorpusPart("read", READ, 1.0), CorpusPart("talks", TALKS, 1.0, 4)
    plan = plan_of(*parts, num_streams=2)
    with BatchLoader(plan) as loader:
        state = next(islice(loader, 9, None))[1]
    said = capsys.readouterr().err
    assert said.count("talks: all documents of data.sources.max_epochs were drawn by batch") == 1
    with BatchLoader(plan, state) as loader:
        next(islice(loader, 3, None))
    assert "talks" not in capsys.readouterr().err


@pytest.mark.parametrize("mix_by", ["tokens", "documents"])
def test_a_stream_goes_on_as_if_it_had_not_stopped(mix_by: str) -> None:
    """Stopped before and after the corpus drops out."""
    parts = CorpusPart("read", READ, 1.0), CorpusPart("talks", TALKS, 2.0, 16)
    plan = plan_of(*parts, mix_by=mix_by, pack_buffer=8)
    whole = list(islice(BatchStream(plan), 12))
    gone = [state.cursors["interleaved:talks"] + state.cursors["speech:talks"] for _, state in whole]
    assert gone[2] < 16
    assert gone[-1] == 16
    for stop in (1, 3, 9):
        resumed = list(islice(BatchStream(plan, state=through_json(whole[stop - 1][1])), 12 - stop))
        for (batch, state), (other, other_state) in zip(resumed, whole[stop:], strict=True):
            assert same(batch, other)
            assert state == other_state


def test_drawn_documents_follow_the_weights_until_a_corpus_is_gone() -> None:
    sources = [
        MixSource("text:read", "text", READ, 1.0, corpus="read", share=1.0),
        MixSource("text:talks", "text", TALKS, 1.0, corpus="talks", share=3.0, most_documents=900),
        MixSource("text:news", "text", TALKS, 1.0, corpus="news", share=2.0),
    ]
    mixture = Mixture(sources, "documents", seed=1)
    drawn, at = [0, 0, 0], None
    for number in range(6_000):
        drawn[mixture.next_source(drawn, [0, 0, 0])] += 1
        at = number if at is None and drawn[1] == 900 else at
    assert at is not None
    assert abs(at - 1_800) < 150
    assert drawn[1] == 900
    assert abs(drawn[2] / drawn[0] - 2) < 0.2


def test_documents_are_told_by_their_corpus() -> None:
    """Units count up from a number of their utterance, so that every token tells where it is from."""
    plan = plan_of(CorpusPart("talks", TALKS, 1.0), CorpusPart("read", READ, 1.0), mix=MixConfig(0.0, 0.0, 1.0))
    told = list(plan.told_sources)
    first_unit = plan.builder.vocabulary.first_unit_id
    for batch, _ in islice(BatchStream(plan), 6):
        sources = batch.doc_source_ids[batch.doc_ids]
        is_unit = batch.modalities == 1
        numbers = (batch.token_ids[is_unit] - first_unit) // 1_000
        assert all(
            told[source] == ("talks" if number >= 12 else "read")
            for source, number in zip(sources[is_unit].tolist(), numbers.tolist(), strict=True)
        )


def test_without_weights_a_mix_is_what_it_was() -> None:
    plain, told = make_plan(mix_by="tokens"), dataclasses.replace(make_plan(mix_by="tokens"), told_sources=["unnamed"])
    for (batch, state), (other, other_state) in zip(islice(BatchStream(plain), 5), BatchStream(told), strict=False):
        assert batch.doc_source_ids is None
        assert not other.doc_source_ids.any()
        assert same(batch, dataclasses.replace(other, doc_source_ids=None))
        assert state == other_state


@pytest.mark.parametrize("mix", [MixConfig(1.0, 0.0, 1.0), MixConfig(1.0, 0.0, 0.0)])
def test_documents_of_no_kind_may_run_out(mix: MixConfig) -> None:
    """One corpus has no limit, but it has no transcripts either."""
    read = CorpusPart("read", READ, 1.0, 10)
    heard = CorpusPart("heard", [], 1.0, None, [dataclasses.replace(one, text="", words=()) for one in TALKS])
    with pytest.raises(UserError, match=r"limits every source of data\.mix\.interleaved documents \(read\)"):
        mix_sources(READ, [], mix, corpora=[read, heard], untranscribed=heard.untranscribed)
    only = mix_sources(READ, [], MixConfig(0.0, 0.0, 1.0), corpora=[read, heard], untranscribed=heard.untranscribed)
    assert [source.most_documents for source in only] == [10, None]
