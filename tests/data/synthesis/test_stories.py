"""The story grammar: different, well-formed stories whose endings belong to them, and sentence splitting."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lst.data.synthesis.grammar import SIZES, grammar
from lst.data.synthesis.stories import STRATA, Story, generate_questions, generate_stories, split_sentences
from lst.data.text import pronouncing_dictionary
from lst.errors import UserError

STANDARD = grammar("standard")
NAMES, TOPICS, NUM_POSSIBLE_STORIES = STANDARD.names, STANDARD.topics, STANDARD.num_stories
FUNCTION_WORDS = set(
    re.findall(
        r"\w+",
        "a all and at away by down every for from had he her him his in into it its of off on out over she some the "
        "there to up was when with",
    )
)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def content_words(text: str) -> set[str]:
    return set(words_of(text)) - FUNCTION_WORDS


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return generate_stories(20_000, seed=11)


def test_same_arguments_same_stories_on_every_machine():
    # Written out, so that another Python version or platform that drew otherwise would fail here.
    first, second = generate_stories(2, seed=0)
    assert (first.id, first.topic, second.id) == ("story-000000", "paint", "story-000001")
    assert first.text == (
        "Peter wanted to paint the old fence. He took a brush from the market. He washed the dust and dirt away. "
        "His mother brought the brush and the ladder. The fence was bright, and Peter washed the brush."
    )
    assert generate_stories(50, seed=3) == generate_stories(50, seed=3)
    assert generate_stories(50, seed=3) != generate_stories(50, seed=4)


def test_20000_stories_are_pairwise_different(stories):
    assert len({story.text for story in stories}) == 20_000
    assert [story.id for story in stories] == [f"story-{index:06d}" for index in range(20_000)]


def test_every_choice_shows_in_the_text():
    # This is what makes all the grammar's stories different, not only those of one draw.
    for topic in TOPICS:
        assert len(set(topic.things)) == len(set(topic.places)) == 3
        for wordings, placeholders in zip(
            topic.wordings,
            ({"{name}", "{thing}"}, {"{place}"}, set(), {"{helper}"}, {"{name}", "{thing}"}),
            strict=True,
        ):
            assert len(set(wordings)) == 3
            for wording in wordings:
                assert placeholders <= set(re.findall(r"{\w+}", wording)), (topic.name, wording)


def test_too_many_stories_are_refused():
    with pytest.raises(UserError, match=f"{NUM_POSSIBLE_STORIES + 1}.*has {NUM_POSSIBLE_STORIES} different stories"):
        generate_stories(NUM_POSSIBLE_STORIES + 1, seed=0)
    with pytest.raises(UserError, match="num_stories=-1"):
        generate_stories(-1, seed=0)
    with pytest.raises(UserError, match="seed=-1"):
        generate_stories(1, seed=-1)


def test_form_of_a_story(stories):
    num_words = []
    for story in stories[:5000]:
        assert len(story.sentences) == 5
        assert re.fullmatch(r"[A-Za-z', .]+", story.text)
        assert split_sentences(story.text) == list(story.sentences)
        for sentence in story.sentences:
            assert re.fullmatch(r"[A-Z][^.]*[a-z]\.", sentence)
            assert 5 <= len(words_of(sentence)) <= 9, sentence
        num_words.append(len(words_of(story.text)))
    assert 30 <= sum(num_words) / len(num_words) <= 38


def test_small_vocabulary_in_the_pronouncing_dictionary(stories):
    pocketsphinx = pytest.importorskip("pocketsphinx")
    dictionary_path = Path(pocketsphinx.get_model_path(), "en-us", "cmudict-en-us.dict")
    with open(dictionary_path, encoding="utf-8") as file:
        known = {line.split()[0] for line in file if line.strip()}
    vocabulary = {word for story in stories for word in words_of(story.text)}
    assert vocabulary <= known, sorted(vocabulary - known)
    assert 250 <= len(vocabulary) <= 350


def test_every_topic_and_name_is_used_about_equally(stories):
    for options, values in (
        ([topic.name for topic in TOPICS], [story.topic for story in stories]),
        (NAMES, [next(name for name in NAMES if name in story.sentences[0]) for story in stories]),
    ):
        expected = len(stories) / len(options)
        for option in options:
            assert 0.8 * expected < values.count(option) < 1.2 * expected, option


def test_pronouns_agree_with_the_name(stories):
    for story in stories:
        words = set(words_of(story.text))
        is_she = next(name for name in NAMES if name in story.sentences[0]) in NAMES[:8]
        assert words & ({"she", "her"} if is_she else {"he", "his", "him"}), story.text
        assert not words & ({"he", "his", "him"} if is_she else {"she", "her"}), story.text


def test_the_ending_names_the_person_and_the_thing(stories):
    for story in stories[:2000]:
        topic = next(topic for topic in TOPICS if topic.name == story.topic)
        ending, opening = content_words(story.sentences[4]), content_words(story.sentences[0])
        assert ending & opening & {name.lower() for name in NAMES}
        assert ending & opening & set(topic.things)


@pytest.mark.parametrize(("hide_names", "least_fraction"), [(False, 0.99), (True, 0.97)])
def test_the_true_ending_shares_more_words_than_another_topics(stories, hide_names, least_fraction):
    hidden = {name.lower() for name in NAMES} if hide_names else set()
    generator = random.Random(0)
    num_pairs = num_right = 0
    for story, other in itertools.islice(zip(stories, generator.sample(stories, len(stories)), strict=True), 5000):
        if story.topic == other.topic:
            continue
        context = content_words(" ".join(story.sentences[:4])) - hidden
        num_pairs += 1
        num_right += len(context & content_words(story.sentences[4])) > len(context & content_words(other.sentences[4]))
    assert num_pairs > 4000
    assert num_right / num_pairs >= least_fraction


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("One", ["One"]),
        ("One. Two!  Three?\nFour", ["One.", "Two!", "Three?", "Four"]),
        ("\"Stop!\" he said. (It was late.) 'Why?' Yes.", ['"Stop!"', "he said.", "(It was late.)", "'Why?'", "Yes."]),
        ("“Go.” So we did", ["“Go.”", "So we did"]),
        ("It cost 3.50 at a.b once... What?! Fine.", ["It cost 3.50 at a.b once...", "What?!", "Fine."]),
        ("broken over\n  two lines. End.\n", ["broken over two lines.", "End."]),
    ],
)
def test_split_sentences(text, sentences):
    assert split_sentences(text) == sentences


@given(st.text(alphabet="ab.!?\"'” \n", max_size=40))
def test_split_sentences_loses_nothing(text):
    sentences = split_sentences(text)
    assert " ".join(sentences).split() == text.split()
    assert all(sentences)


@pytest.mark.parametrize(("size", "num_types"), [("mini", 150), ("standard", 350), ("wide", 1900)])
def test_sizes_have_about_the_word_types_that_they_claim(size, num_types):
    texts = [story.text for story in generate_stories({"mini": 3000, "standard": 8000, "wide": 30_000}[size], 1, size)]
    assert len(texts) == len(set(texts))
    assert len({word for text in texts for word in words_of(text)}) == pytest.approx(num_types, rel=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_every_word_is_in_the_packaged_dictionary(size):
    dictionary = pronouncing_dictionary()
    chosen = grammar(size)
    lists = [chosen.names, chosen.helpers, *chosen.openings.values()]
    lists += [own for topic in chosen.topics for own in (topic.things, topic.places)]
    assert not {word for own in lists for word in own} - {w for own in lists for w in own if w.lower() in dictionary}
    assert all(len(set(own)) == len(own) for own in lists)
    assert {len(topic.things) for topic in chosen.topics} == {chosen.radices[2]}
    assert {len(topic.places) for topic in chosen.topics} == {chosen.radices[3]}


@given(st.sampled_from(SIZES), st.data())
def test_a_number_is_its_digits(size, data):
    chosen = grammar(size)
    number = data.draw(st.integers(0, chosen.num_stories - 1))
    assert chosen.number(chosen.digits(number)) == number


@pytest.mark.parametrize("size", SIZES)
def test_questions_differ_as_their_stratum_says(size):
    known = {story.number for story in generate_stories(500, 5, size)}
    questions = generate_questions(60, 1, size, known)
    assert [question.stratum for question in questions] == [stratum for stratum in STRATA for _ in range(60)]
    used = [story.number for question in questions for story in (question.true, question.false)]
    assert len(used) == len(set(used))
    assert not set(used) & known
    chosen = grammar(size)
    for question in questions:
        true, false = (chosen.digits(story.number) for story in (question.true, question.false))
        differing = [place for place, pair in enumerate(zip(true, false, strict=True)) if pair[0] != pair[1]]
        if question.stratum == "story":
            assert set(differing) & {0, 1, 2}, "with one topic, name and thing, both endings would be true"
        else:
            assert differing == [chosen.CHOICES.index(question.stratum)]
        assert question.true.context != question.false.context
        assert question.true.sentences[-1] != question.false.sentences[-1]
        if question.stratum == "name":
            # A pronoun would tell the names apart.
            assert len({true[1] < len(chosen.she), false[1] < len(chosen.she)}) == 1
    assert generate_questions(60, 1, size, known) == questions
    assert generate_questions(60, 2, size, known) != questions


def test_more_questions_than_stories_are_refused():
    with pytest.raises(UserError, match="3000 questions a stratum are not possible: the mini grammar has 8748 stories"):
        generate_questions(3000, 0, "mini", ())
