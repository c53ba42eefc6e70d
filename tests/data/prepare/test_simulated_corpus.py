"""Stories and questions as simulated speech: what is prepared, and that nothing but the options decides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lst.configs.compose import build_config
from lst.data.prepare import gather
from lst.data.prepare.prepare import prepare
from lst.data.prepared import PreparedData
from lst.data.shards import load_index
from lst.data.synthesis import generate_questions, generate_stories
from lst.data.synthesis.fresh import FreshStories
from lst.data.synthesis.grammar import grammar
from lst.data.synthesis.stories import STRATA
from lst.errors import UserError
from lst.recipes.training.batches import build_stream_plan
from lst.runs.preparing import prepare_options
from lst.tokenizers.imported_units import ImportedUnits

WORDS = [
    *("corpus=simulated", "data.stories=mini", "data.num_spoken_stories=40", "data.num_text_stories=30"),
    *(
        "data.num_questions=4",
        "tokenizer.text_vocab_size=300",
        "data.shard_utterances=16",
        "data.simulated.num_speakers=3",
    ),
]


def prepared(folder, *words: str) -> PreparedData:
    prepare(folder, prepare_options(build_config([*WORDS, *words])))
    return PreparedData(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return prepared(tmp_path_factory.mktemp("simulated") / "data", "num_workers=1")


def test_stories_and_questions_are_prepared(data):
    index = load_index(data.folder)
    assert index["description"] == "embedded stories, simulated speech (100 units, 3 speakers)"
    assert index["is_synthesised"] is True
    assert index["aligner"] == "simulated"
    assert (len(data.train), len(data.valid), len(data.text), len(data.question_parts)) == (36, 4, 30, 64)
    assert isinstance(data.codec, ImportedUnits)
    assert (data.codec.num_units, data.codec.frame_rate_hz) == (100, 25)
    story = data.train[0]
    assert " ".join(word.text for word in story.words) == story.text
    assert story.words[story.ending_start_word - 1].text.endswith(".")


def test_a_voice_speaks_the_parts_of_a_question_with_the_same_settings(monkeypatch):
    said = {}

    class HeardError(Exception):
        pass

    def listen(jobs, *_):
        said.update(jobs)
        raise HeardError

    monkeypatch.setattr(gather, "spoken_files", listen)
    monkeypatch.setattr(gather, "choose_engine", lambda _: "flite")
    words = [word for word in WORDS if not word.startswith(("corpus=", "data.simulated"))]
    with pytest.raises(HeardError):
        gather.gather_source(prepare_options(build_config([*words, "data.num_speakers=3"])))
    assert len(set(said.values())) == 3
    for question in generate_questions(4, 0, "mini", {s.number for s in generate_stories(70, 0, "mini")}):
        parts = [text for story in (question.true, question.false) for text in (story.context, story.sentences[-1])]
        assert len({said[text] for text in parts}) == 1


@pytest.mark.parametrize("num_speakers", [1, 2])
def test_questions_share_what_an_engine_says_alike(monkeypatch, num_speakers):
    monkeypatch.setattr(gather, "choose_engine", lambda _: "flite")
    monkeypatch.setattr(
        gather, "spoken_files", lambda jobs, *_: [Path(f"{number}.flac") for number in range(len(jobs))]
    )
    monkeypatch.setattr(gather, "check_rows", lambda rows, *_: (rows, []))
    words = ["data.stories=mini", "data.num_spoken_stories=40", "data.num_text_stories=30", "data.num_questions=30"]
    source = gather.gather_source(prepare_options(build_config([*words, f"data.num_speakers={num_speakers}"])))
    parts = {row.id: row for row in source.rows if row.split == "questions"}
    sounds = {(part.text, part.speaker) for part in parts.values()}
    assert len(sounds) == len(parts) < 4 * len(source.questions)
    asked = generate_questions(30, 0, "mini", {story.number for story in generate_stories(70, 0, "mini")})
    for question, told in zip(source.questions, asked, strict=True):
        own = [parts[name] for name in (question.context, question.endings[question.label])]
        others = [parts[name] for name in (question.other_context, question.endings[1 - question.label])]
        for story, pair in ((told.true, own), (told.false, others)):
            assert [part.text for part in pair] == [story.context, story.sentences[-1]]
        assert len({part.speaker for part in own + others}) == 1


def test_parts_of_a_question_have_one_speaker_and_are_separate(data):
    parts = {part.id: part for part in data.question_parts}
    assert [question.stratum for question in data.questions] == [stratum for stratum in STRATA for _ in range(4)]
    for question in data.questions:
        own = [parts[name] for name in question.utterances]
        assert len({part.id for part in own}) == 4
        assert len({part.speaker for part in own}) == 1
        assert all(part.segments()[0].word == part.segments()[-1].word == -1 for part in own), "silence at both ends"
        true, false = own[2 + question.label], own[3 - question.label]
        assert true.id.startswith(f"{question.id}-true")
        assert false.id.startswith(f"{question.id}-false")
    assert {question.label for question in data.questions} == {0, 1}


def test_bytes_do_not_depend_on_workers(data, tmp_path):
    other = prepared(tmp_path / "data", "num_workers=2")
    assert load_index(other.folder)["splits"] == load_index(data.folder)["splits"]


def test_other_simulations_are_other_units(data, tmp_path):
    other = prepared(tmp_path / "data", "data.simulated.noise=0.2", "num_workers=1")
    assert other.codec.sha256 != data.codec.sha256
    assert not np.array_equal(other.train[0].units, data.train[0].units)
    # A model of the one must not be taken for a model of the other.
    assert other.vocabulary.fingerprint != data.vocabulary.fingerprint


def test_an_impossible_simulation_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(Exception, match=r"word_units=1\.5"):
        prepared(tmp_path / "data", "data.simulated.word_units=1.5")
    assert not (tmp_path / "data" / "source.json").exists()


def test_training_says_speech_anew_by_choice(data, monkeypatch):
    config = build_config([f"run_dir={data.folder.parent}", "data.mix.fresh_speech=true", "data.mix.paired=1"])
    plan = build_stream_plan(config, data, "")
    for source in plan.sources:
        first, second = (source.utterance(0, epoch) for epoch in (0, 1))
        is_same = np.array_equal(first.units, second.units)
        assert is_same == (source.kind == "text"), source.kind
        assert first.text == second.text
    plain = build_stream_plan(build_config([f"run_dir={data.folder.parent}"]), data, "")
    for source in plain.sources:
        assert np.array_equal(source.utterance(0, 1).units, source.utterances[0].units), source.kind
    monkeypatch.setattr("lst.recipes.training.batches.read_source", lambda _: {})
    with pytest.raises(UserError, match=r"fresh_speech=true.*only simulated speech can be said anew"):
        build_stream_plan(config, data, "")


def test_what_a_training_was_begun_with_says_so_only_where_speech_is_fresh(data):
    plain, fresh = (build_config(words).data.mix.recorded() for words in ([], ["data.mix.fresh_speech=true"]))
    assert fresh == {**plain, "fresh_speech": True}


FRESH = ("data.mix.fresh_speech=true", "data.mix.fresh_stories=true", "data.mix.paired=1")


def test_training_draws_stories_anew_by_choice(data, monkeypatch):
    monkeypatch.setitem(data.__dict__, "questions", [])
    sources = [
        build_stream_plan(build_config([f"run_dir={data.folder.parent}", *FRESH, f"seed={seed}"]), data, "").sources
        for seed in (0, 0, 1)
    ]
    stories = {" ".join(grammar("mini").write(number)) for number in range(grammar("mini").num_stories)}
    drawn = []
    for first, again, other in zip(*sources, strict=True):
        for epoch in (0, 1):
            one, same, another = (source.utterance(3, epoch) for source in (first, again, other))
            assert one.text in stories
            assert (one.text, one.units.tolist()) == (same.text, same.units.tolist()), "seed, name and place decide"
            assert one.text != another.text
            assert bool(one.num_frames) == (first.kind != "text")
            assert [word.text for word in one.words] == (one.text.split() if one.num_frames else [])
            drawn.append(one.text)
    assert len(set(drawn)) == len(drawn) == 8


def test_all_stories_are_as_likely():
    fresh = FreshStories(grammar("mini"), 0, 1)
    texts = [fresh.utterance(f"text-0-{number}", None).text for number in range(1200)]
    assert len(set(texts)) > 1050, "a story comes again as seldom as chance has it"
    topics = [sum(name in text for text in texts) for name in grammar("mini").names]
    assert all(150 < count < 250 for count in topics)


def test_stories_are_not_drawn_where_questions_ask_about_them(data, monkeypatch):
    config = build_config([f"run_dir={data.folder.parent}", *FRESH])
    with pytest.raises(UserError, match=r"fresh_stories=true.*asks questions about stories that would be trained on"):
        build_stream_plan(config, data, "")
    monkeypatch.setattr("lst.evaluation.ceilings.read_source", lambda _: {})
    with pytest.raises(UserError, match=r"fresh_stories=true.*only simulated stories can be drawn anew"):
        build_stream_plan(config, data, "")
    with pytest.raises(UserError, match=r"set data\.mix\.fresh_speech=true, too"):
        build_config(["data.mix.fresh_stories=true"])
