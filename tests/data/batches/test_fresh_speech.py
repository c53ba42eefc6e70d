"""Simulated speech that is said anew in every pass: never twice the same, and the same after a stop."""

from __future__ import annotations

import json
from itertools import islice
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from lst.data.batches.mixing import mix_sources
from lst.data.batches.stream import BatchStream, StreamPlan, StreamState
from lst.data.config import InterleaveConfig, MixConfig, SimulatedConfig
from lst.data.documents.interleave import DocumentBuilder
from lst.data.synthesis.simulated import SimulatedSpeech, mean_phones
from lst.data.synthesis.stories import generate_stories
from lst.model.config import PatchingConfig
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

STORIES = generate_stories(12, 0, "mini")
SPEECH = SimulatedSpeech(SimulatedConfig(num_speakers=2), 0, mean_phones(story.text for story in STORIES))
STORED = [SPEECH.utterance(story.id, story.text, n % 2, 7) for n, story in enumerate(STORIES)]
TOKENIZER = fit_text_tokenizer([story.text for story in STORIES], 300)
VOCABULARY = Vocabulary(TOKENIZER.vocab_size, 100, TOKENIZER.sha256, "u")


@pytest.fixture
def plan() -> StreamPlan:
    builder = DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), 0, "word")
    sources = mix_sources(STORED, [], MixConfig(1.0, 0.0, 1.0, 1.0), SPEECH)
    return StreamPlan(sources, builder, PatchingConfig("none"), 1, 400, 100, 4, seed=0, fingerprint="f")


def test_the_same_words_are_said_with_other_durations_silences_and_noise():
    takes = [SPEECH.again(STORED[3], f"take-{number}") for number in range(40)]
    assert len({take.units.tobytes() for take in takes}) == len(takes)
    for take in takes:
        assert [word.text for word in take.words] == [word.text for word in STORED[3].words]
        assert (take.id, take.speaker, take.text, take.ending_start_word) == (
            *(STORED[3].id, STORED[3].speaker),
            *(STORED[3].text, STORED[3].ending_start_word),
        )
        segments = take.segments()
        assert [s.start_frame for s in segments[1:]] == [s.end_frame for s in segments[:-1]]
        assert (segments[0].start_frame, segments[-1].end_frame) == (0, take.num_frames)
    assert np.array_equal(SPEECH.again(STORED[3], "take-5").units, takes[5].units)


def test_no_utterance_is_heard_twice(plan):
    heard = {
        source.utterance(number, epoch).units.tobytes()
        for source in plan.sources
        for number in range(len(STORED))
        for epoch in range(3)
    }
    assert len(heard) == len(plan.sources) * len(STORED) * 3
    assert not heard & {utterance.units.tobytes() for utterance in STORED}


def test_a_training_goes_on_with_the_same_batches_in_another_process(plan):
    whole = list(islice(BatchStream(plan), 12))
    assert whole[-1][1].num_drawn > 2 * len(STORED), "several passes"
    state = StreamState.from_json(json.loads(json.dumps(whole[6][1].to_json())))
    elsewhere: StreamPlan = ForkingPickler.loads(ForkingPickler.dumps(plan))
    for (batch, _), (expected, _) in zip(BatchStream(elsewhere, 0, state), whole[7:], strict=False):
        assert batch.token_ids.tolist() == expected.token_ids.tolist()
