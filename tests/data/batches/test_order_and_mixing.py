"""The order of a pass and the mix of sources: bijections that look random, and shares that are kept."""

from __future__ import annotations

import itertools
import math
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.batches.mixing import DocumentMix, MixSource, TokenMix, mix_sources
from lst.data.batches.order import PassOrder, Shuffle
from lst.data.batches.stream import BatchStream
from lst.data.config import DataConfig, MixConfig
from lst.data.utterance import Utterance
from lst.errors import UserError
from tests.data.batches.test_stream import SPOKEN, WRITTEN, make_plan


def items(order: Shuffle | PassOrder) -> list[int]:
    return order[np.arange(order.num_items)].tolist()


def test_every_item_comes_once_whatever_their_number() -> None:
    for num_items in [*range(1, 260), 1_000, 4_096, 4_097, 99_991]:
        for seed in range(3):
            assert sorted(items(Shuffle(num_items, [seed]))) == list(range(num_items)), num_items


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=25).filter(any), st.integers(1, 6), st.integers(0, 2**40))
def test_every_item_comes_once_by_windows_of_shards(sizes: list[int], window: int, seed: int) -> None:
    order = PassOrder(sum(sizes), [seed], window, sizes)
    found = items(order)
    assert sorted(found) == list(range(sum(sizes)))
    # Any place on its own is the same as all together.
    assert [int(order[np.array([place])][0]) for place in range(0, len(found), 3)] == found[::3]
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[found]
    if len(sizes) > window:
        # Once a shard is left behind it is not read again, and no more than a window's are open at a time.
        open_shards = [set(shard_of[:place]) & set(shard_of[place:]) for place in range(len(found))]
        assert max(map(len, open_shards)) <= window


@pytest.mark.parametrize("num_items", [2, 3, 4, 5])
def test_all_orders_of_a_few_items_are_equally_likely(num_items: int) -> None:
    counts = Counter(tuple(items(Shuffle(num_items, [seed, 7]))) for seed in range(6_000))
    num_orders = math.factorial(num_items)
    expected = 6_000 / num_orders
    chi_square = sum((counts[order] - expected) ** 2 / expected for order in itertools.permutations(range(num_items)))
    print(f"{num_items} items: chi² {chi_square:.1f} with {num_orders - 1} degrees of freedom")
    assert chi_square < num_orders - 1 + 5 * math.sqrt(2 * (num_orders - 1))


def test_an_order_looks_random() -> None:
    """Where items come, what follows what, and how two passes differ, over a source of 30,011."""
    num_items = 30_011
    first, second = (np.array(items(Shuffle(num_items, [0, 1, epoch]))) for epoch in (0, 1))
    places = np.arange(num_items)
    for order in (first, second):
        counts, _, _ = np.histogram2d(places, order, bins=16)
        expected = num_items / 256
        chi_square = ((counts - expected) ** 2 / expected).sum()
        # Rows and columns of the table are fixed: 15 × 15 degrees of freedom.
        assert abs(chi_square - 225) < 5 * math.sqrt(450)
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / math.sqrt(num_items)
        steps = np.histogram(np.diff(order) % num_items, bins=64, range=(0, num_items))[0]
        assert ((steps - num_items / 64) ** 2 / (num_items / 64)).sum() < 63 + 5 * math.sqrt(126)
        # Of a permutation one item is expected to stay, Poisson distributed.
        assert (order == places).sum() <= 6
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(num_items)
    assert (first == second).sum() <= 6


def test_a_place_far_into_ten_million_items_costs_no_time_and_no_memory() -> None:
    tracemalloc.start()
    started_s = time.perf_counter()
    found = PassOrder(10_000_000, [3])[np.arange(9_000_000, 9_000_100)]
    elapsed_s = time.perf_counter() - started_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(found.tolist())) == 100
    # A permutation in memory would take 80 MB.
    assert peak_bytes < 200_000
    assert elapsed_s < 1


def test_orders_of_nothing_and_of_other_shards_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to shuffle: 0 items"):
        Shuffle(0, [1])
    with pytest.raises(ValueError, match="shards hold 6 items, the source 7"):
        PassOrder(7, [1], 1, [3, 3])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 20).map(lambda weight: round(weight, 2)), min_size=1, max_size=4), st.integers(0, 1000))
def test_tokens_are_never_further_from_their_share_than_the_longest_document(weights: list[float], seed: int) -> None:
    generator, mix = np.random.default_rng(seed), TokenMix(weights)
    given_tokens = [0] * len(weights)
    for num_drawn in range(300):
        source = mix.next_source(num_drawn, given_tokens)
        given_tokens[source] += int(generator.integers(1, 100 * (source + 1)))
        served = [tokens / weight for tokens, weight in zip(given_tokens, weights, strict=True)]
        longest = max(100 * (index + 1) / weight for index, weight in enumerate(weights))
        assert max(served) - min(served) <= longest


def test_token_weights_are_exact_decimals() -> None:
    """A tenth and three tenths, which binary fractions only come near to: equal documents come 1 : 3, ever."""
    mix, tokens = TokenMix([0.1, 0.3]), [0, 0]
    for num_drawn in range(4_000):
        tokens[mix.next_source(num_drawn, tokens)] += 7
    assert tokens == [7_000, 21_000]


def test_mix_of_a_stream_is_of_tokens() -> None:
    """The published mixture, 1 : 2 of tokens, though written texts are a tenth as long as interleaved documents."""
    stream = BatchStream(make_plan(mix=(1.0, 2.0, 0.0), mix_by="tokens", row_patches=600))
    for _ in range(20):
        _, state = next(stream)
    interleaved, text = state.source_tokens["interleaved"], state.source_tokens["text"]
    longest = 200
    assert abs(2 * interleaved - text) <= 2 * longest
    assert state.cursors["text"] > 4 * state.cursors["interleaved"]
    assert interleaved + text > 20_000


def test_drawn_documents_follow_their_weights_and_streams_take_turns() -> None:
    weights = [1.0, 2.0, 5.0]
    one = DocumentMix(weights, 3)
    sources = [one.next_source(number, ()) for number in range(6_000)]
    for index, weight in enumerate(weights):
        share = weight / 8
        assert abs(sources.count(index) / 6_000 - share) < 5 * math.sqrt(share * (1 - share) / 6_000)
    for stream in range(3):
        own = DocumentMix(weights, 3, stream, 3)
        assert [own.next_source(number, ()) for number in range(2_000)] == sources[stream::3]
    # Draws far on are as near, and asking again changes nothing.
    assert one.next_source(10**12, ()) == DocumentMix(weights, 3).next_source(10**12, ())
    assert one.next_source(5, ()) == sources[5]


def test_several_text_sources_stand_beside_the_interleaved_one() -> None:
    other = [Utterance(f"book_{i}", "", "the small dog slept", 0.0, np.zeros(0, np.uint16)) for i in range(5)]
    sources = [*mix_sources(SPOKEN, WRITTEN, MixConfig(1.0, 1.0, 0.0)), MixSource("books", "text", other, 2.0)]
    plan = make_plan(mix_by="tokens", row_patches=400)
    object.__setattr__(plan, "sources", sources)
    stream = BatchStream(plan)
    for _ in range(10):
        _, state = next(stream)
    tokens = state.source_tokens
    assert abs(tokens["books"] - 2 * tokens["interleaved"]) < 400
    assert abs(tokens["text"] - tokens["interleaved"]) < 400


def test_sources_are_of_what_was_prepared() -> None:
    names = [source.name for source in mix_sources(SPOKEN, WRITTEN, MixConfig(1.0, 2.0, 0.0))]
    assert names == ["interleaved", "text"]
    assert mix_sources(SPOKEN, [], MixConfig(0.0, 1.0, 0.0))[0].utterances is SPOKEN
    with pytest.raises(UserError, match="no aligned speech"):
        mix_sources([], WRITTEN, MixConfig())


def test_faulty_options_are_all_named() -> None:
    config = DataConfig(
        num_streams=0, num_loader_workers=-1, shuffle_shards=-2, mix=MixConfig(-1.0, float("nan"), 0.0, by="letters")
    )
    problems = "\n".join(config.problems())
    for part in (
        "data.num_streams=0: must be 1 or more",
        "data.num_loader_workers=-1: must be 0 or more",
        "data.shuffle_shards=-2",
        "data.mix.interleaved=-1.0: must be 0 or more",
        "data.mix.text=nan: must be a finite number",
        "interleaved=-1.0, text=nan, speech=0.0, paired=0.0, asr=0.0, tts=0.0: one must be above 0",
        "data.mix.by=letters: allowed are tokens",
    ):
        assert part in problems
    assert DataConfig().problems() == []
