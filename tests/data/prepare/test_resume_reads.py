"""A run that was stopped goes on with what is left: it reads the rows and the audio of shards that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from lst import storage
from lst.data.config import AlignConfig
from lst.data.corpora.manifest import parse_record
from lst.data.prepare import lists, prepare
from lst.data.prepare.lists import read_plan, read_rows
from tests.data.conftest import MakeCorpus, hashes, options

LEFT = "train-000001"


def with_words(corpus: Path) -> Path:
    """The same corpus with times of words, evenly spread over the audio."""
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        words = row["text"].split()
        step_s = soundfile.info(corpus / row["path"]).duration / len(words)
        row["words"] = [[word, n * step_s, (n + 1) * step_s] for n, word in enumerate(words)]
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return corpus


def test_only_the_shard_that_is_left_is_read(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, data = with_words(make_corpus(tmp_path / "corpus")), tmp_path / "data"
    given = options(corpus, align=AlignConfig(method="manifest"), max_unaligned_share=0.9)
    prepare(data, given)
    before = hashes(data)
    (data / "index.json").unlink()
    (data / f"shards/{LEFT}.json").unlink()
    (shard,) = [shard for shard in read_plan(data) if shard.name == LEFT]
    audio = {str(row.path) for row in read_rows(data, shard)}
    opened, parsed = list[str](), list[str]()
    open_binary = storage.open_binary

    def counted_open(place: storage.Location) -> object:
        opened.append(str(place))
        return open_binary(place)

    def counted_parse(*arguments: object) -> object:
        parsed.append(str(arguments[1]))
        return parse_record(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "open_binary", counted_open)
    monkeypatch.setattr(lists, "parse_record", counted_parse)
    monkeypatch.setattr("lst.data.corpora.manifest.parse_record", counted_parse)
    prepare(data, given)
    assert hashes(data) == before
    assert {place for place in opened if place.startswith(str(corpus))} == audio
    assert parsed == [LEFT] * len(shard)
