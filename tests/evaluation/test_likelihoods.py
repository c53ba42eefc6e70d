"""Log-likelihoods of endings: by hand for a model with known probabilities, and what they do not depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from lst.data.config import InterleaveConfig
from lst.data.documents import DocumentBuilder
from lst.data.utterance import Utterance, Word
from lst.evaluation.accuracy import ALL, direction_scores
from lst.evaluation.items import Item, Part
from lst.evaluation.likelihoods import score_items
from lst.evaluation.results import DIRECTIONS
from lst.model.inference import ScoredTokens
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

NAMES = ("ann", "bob", "cid", "dan")
WORDS = [*NAMES, "saw", "it", ".", "then", "ran"]


@dataclass
class PairScorer:
    """Stands for a model: the log-probability of a token depends on the token, and on whether it was seen before.

    A repeated token has log-probability −1, a new one −2 − id / 1000.
    """

    builder: DocumentBuilder

    def score(self, documents):
        return [ScoredTokens(np.array(token_nats(document.token_ids.tolist(), span))) for document, span in documents]


def token_nats(ids: list[int], span: slice) -> list[float]:
    return [-1.0 if ids[place] in ids[:place] else -2.0 - ids[place] / 1000 for place in range(span.start, span.stop)]


def said(name: str, text: str) -> Utterance:
    words, units = text.split(), []
    places = []
    for word in words:
        places.append(Word(word, len(units), len(units) + 3, 0.0))
        # Every word has units of its own.
        units += [10 + WORDS.index(word)] * 3
    return Utterance(name, "s", text, len(units) / 25, np.array(units, np.uint16), tuple(places))


@pytest.fixture(scope="module")
def scorer() -> PairScorer:
    tokenizer = fit_text_tokenizer([f"{name} saw it . then {name} ran" for name in NAMES] * 5, 300)
    vocabulary = Vocabulary(tokenizer.vocab_size, 97, tokenizer.sha256, "u")
    return PairScorer(DocumentBuilder(tokenizer, vocabulary, InterleaveConfig(), 0))


def items(num_endings: int = 2) -> list[Item]:
    found = []
    for number, name in enumerate(NAMES):
        names = [name, *(other for other in NAMES if other != name)][:num_endings]
        names = names[number % num_endings :] + names[: number % num_endings]
        found.append(
            Item(
                f"item-{number}",
                "name",
                Part.whole(said(f"c{number}", f"{name} saw it .")),
                Part.whole(said(f"o{number}", f"{NAMES[number - 1]} saw it .")),
                tuple(Part.whole(said(f"e{number}-{other}", f"then {other} ran")) for other in names),
                names.index(name),
            )
        )
    return found


def by_hand(scorer: PairScorer, direction: str, context: str | None, ending: str) -> float:
    """The ending's log-likelihood, from ids joined without any of the project's code for documents."""
    vocabulary, ids = scorer.builder.vocabulary, []
    for letter, text in zip(direction[::2], (context, ending), strict=True):
        if text is None:
            continue
        marker = vocabulary.speech_id if letter == "S" else vocabulary.text_id
        if letter == "S":
            own = [vocabulary.first_unit_id + unit for word in text.split() for unit in [10 + WORDS.index(word)] * 3]
        else:
            own = scorer.builder.tokenizer.encode(text)
        if not (ids and direction[0] == direction[2]):
            ids.append(marker)
        ids += own
    ids = [vocabulary.bos_id, *ids]
    return sum(token_nats(ids, slice(len(ids) - len(own), len(ids))))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rows_hold_what_is_computed_by_hand(direction, scorer):
    rows = [row for row in score_items(scorer, items()) if row["direction"] == direction]
    assert len(rows) == 8
    for row in rows:
        item = items()[int(row["item"][-1])]
        ending = item.endings[row["ending"]].text
        assert row["nats"] == pytest.approx(by_hand(scorer, direction, item.context.text, ending))
        assert row["swapped_nats"] == pytest.approx(by_hand(scorer, direction, item.other_context.text, ending))
        assert row["alone_nats"] == pytest.approx(by_hand(scorer, direction, None, ending))
        assert row["num_bytes"] == len(ending)
        assert row["is_true"] == (row["ending"] == item.label)


def test_names_that_repeat_within_a_modality_are_found(scorer):
    scores = direction_scores(score_items(scorer, items(4)), 200, 0)
    for direction in DIRECTIONS:
        # This model copies ids, which only one modality shares: 100 % there, a tie of the content elsewhere.
        found = scores[direction]["strata"][ALL]["swap"]["accuracy"]
        assert found == (1.0 if direction[0] == direction[2] else 0.25)


def test_a_score_depends_neither_on_other_items_nor_on_their_order(scorer):
    everything = score_items(scorer, items())
    alone = [row for item in items() for row in score_items(scorer, [item])]
    assert everything == alone
    backwards = score_items(scorer, items()[::-1])
    assert sorted(map(str, backwards)) == sorted(map(str, everything))


def test_permuted_endings_are_the_same_endings(scorer):
    def permuted(item: Item) -> Item:
        return replace(item, endings=item.endings[::-1], label=len(item.endings) - 1 - item.label)

    before = {(row["item"], row["direction"], row["is_true"]): row["nats"] for row in score_items(scorer, items())}
    after = {
        (row["item"], row["direction"], row["is_true"]): row["nats"]
        for row in score_items(scorer, list(map(permuted, items())))
    }
    assert before == after
