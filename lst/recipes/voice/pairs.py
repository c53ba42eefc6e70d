"""Conversions that a voice is evaluated on: between engines' voices, whose truth is known, or recorded speakers."""

from __future__ import annotations

from dataclasses import dataclass

from lst.configs.voice_schema import VoiceConfig
from lst.data.corpora import ManifestRow, check_rows, load_corpus, num_bad_rows
from lst.data.synthesis.stories import generate_stories, split_sentences
from lst.data.synthesis.voices import default_cache_dir, named_speakers, synthesize_many
from lst.errors import UserError
from lst.progress import say

_MIN_WORDS = 6
# Recordings that are long enough to tell voices apart, and short enough for a table in minutes.
_LEAST_S, _MOST_S = 3.0, 15.0


@dataclass(frozen=True)
class Pair:
    """A conversion of a sentence.

    Attributes:
        text: that is said.
        source_voice: who says it.
        source: what is converted.
        reference: speech of the target, whose voice it gets.
        other: other speech of the target, which voices are compared with.
        truth: the same sentence, said by the target; None where there is none.
    """

    text: str
    source_voice: str
    source: ManifestRow
    reference: ManifestRow
    other: ManifestRow
    truth: ManifestRow | None = None


def pairs_of(config: VoiceConfig) -> list[Pair]:
    """The conversions that the options ask for.

    Raises:
        UserError: an engine, a voice or the corpus is missing or unfit.
    """
    return parallel_pairs(config) if config.eval.corpus is None else recorded_pairs(config)


def parallel_pairs(config: VoiceConfig) -> list[Pair]:
    """Sentences, each said by a source and a target voice, and two other sentences of the target."""
    speakers = named_speakers(config.eval.voices, "eval.voices")
    stories = generate_stories(config.eval.sentences + 3, config.seed + 1)
    sentences = [one for story in stories for one in split_sentences(story.text) if len(one.split()) >= _MIN_WORDS]
    chosen = sentences[:: max(1, len(sentences) // (config.eval.sentences + 2))][: config.eval.sentences + 2]
    jobs, names = [], []
    for number, text in enumerate(chosen[:-2]):
        source = speakers[number % len(speakers)]
        # Each voice meets each other one in turn.
        step = 1 + number // len(speakers) % (len(speakers) - 1)
        target = speakers[(number + step) % len(speakers)]
        jobs += [(text, source), (chosen[number + 1], target), (chosen[number + 2], target), (text, target)]
        names.append((text, source.name))
    paths = synthesize_many(jobs, default_cache_dir(), config.num_workers)
    found = [
        ManifestRow(path.stem, path, text, speaker.name) for path, (text, speaker) in zip(paths, jobs, strict=True)
    ]
    return [Pair(*named, *found[4 * n : 4 * n + 4]) for n, named in enumerate(names)]


def recorded_pairs(config: VoiceConfig) -> list[Pair]:
    """Recordings of a corpus, each to be converted into the voice of another speaker of it.

    Held-out utterances are taken where the corpus has some. No recording is converted twice: a recording that counts
    several times would make few look like many.
    """
    assert config.eval.corpus is not None
    own = _by_speaker(config.eval.corpus, config.num_workers)
    names = list(own)
    if len(names) < 2:
        raise UserError(
            f"eval.corpus={config.eval.corpus}: conversions need two speakers or more with two recordings each of "
            f"{_LEAST_S:g} to {_MOST_S:g} s; it has {len(names)}"
        )
    rounds = range(max(map(len, own.values())))
    turns = [(turn, place) for turn in rounds for place, name in enumerate(names) if turn < len(own[name])]
    pairs = []
    for turn, place in turns[: config.eval.sentences]:
        # Each speaker meets each other one in turn.
        target = names[(place + 1 + turn % (len(names) - 1)) % len(names)]
        said, heard = own[names[place]][turn], own[target]
        references = heard[turn % len(heard)], heard[(turn + 1) % len(heard)]
        pairs.append(Pair(said.text, names[place], said, *references))
    if len(pairs) < config.eval.sentences:
        say(f"eval.sentences={config.eval.sentences}: there are {len(pairs)} different recordings to convert, no more")
    return pairs


def _by_speaker(corpus: str, num_workers: int) -> dict[str, list[ManifestRow]]:
    """The fit recordings of each speaker who has two or more; says how many are left out, and why the first one is."""
    rows, unread, _ = load_corpus(corpus)
    held_out = [row for row in rows if row.split == "valid"] or rows
    fit, unfit = check_rows(held_out, _LEAST_S, _MOST_S, num_workers=num_workers)
    english = [row for row in fit if not row.language]
    if missing := len(held_out) - len(english) + num_bad_rows(unread):
        reason = next(map(str, [*unread, *unfit]), "they are not in English")
        say(f"eval.corpus={corpus}: {missing:,} recordings are left out, such as {reason}")
    own: dict[str, list[ManifestRow]] = {}
    for row in english:
        own.setdefault(row.speaker, []).append(row)
    return {name: said for name, said in own.items() if len(said) >= 2}
