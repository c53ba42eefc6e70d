"""Corpora that are added to prepared data, taken out of it or renamed cost their own shards, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.config import AlignConfig
from lst.data.prepare import prepare
from lst.data.prepare.lists import read_plan
from lst.data.prepared import PreparedData
from lst.errors import ProblemsError
from tests.data.conftest import hashes, options


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, Path]:
    """Three corpora with the same ids, and times of their words, so that nothing is aligned."""
    found = {}
    for seed, name in enumerate(("read", "talks", "shows")):
        folder = found[name] = tmp_path / name
        folder.mkdir()
        generator = np.random.default_rng(seed)
        rows = []
        for number in range(6):
            soundfile.write(folder / f"u{number}.wav", 0.1 * generator.standard_normal(16_000), 16_000)
            words = [[word, 0.1 + 0.2 * place, 0.2 + 0.2 * place] for place, word in enumerate(("one", "two", name))]
            rows.append({"id": f"u{number}", "path": f"u{number}.wav", "text": f"one two {name}", "words": words})
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def made(tmp_path: Path, **places: Path) -> dict[str, str]:
    """Prepares corpora; the hashes of their tars."""
    listed = ",".join(f"{name}={place}" for name, place in places.items())
    align = AlignConfig(method="manifest")
    prepare(tmp_path / "data", options(Path(f"[{listed}]"), align=align, max_unaligned_share=0.5))
    return {name: own for name, own in hashes(tmp_path / "data/shards").items() if name.endswith(".tar")}


def sources(tmp_path: Path) -> dict[str, str]:
    return {f"{shard.name}.tar": shard.source for shard in read_plan(tmp_path / "data") if len(shard)}


def test_a_corpus_costs_its_own_shards(
    corpora: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read, talks, shows = corpora.values()
    two = made(tmp_path, read=read, talks=talks)
    artefacts = {name: own for name, own in hashes(tmp_path / "data").items() if "/" not in name}
    capsys.readouterr()
    three = made(tmp_path, read=read, talks=talks, shows=shows)
    said = capsys.readouterr().err
    assert "corpora that are added: shows" in said
    assert "new rows: 6, shows-u" in said
    assert {name: three[name] for name in two} == two
    assert {sources(tmp_path)[name] for name in three.keys() - two.keys()} == {"shows"}
    assert f"shards: {len(three) - len(two)} made, {len(two)} there before" in said
    for name in ("units.safetensors", "text.model"):
        assert hashes(tmp_path / "data")[name] == artefacts[name]
    assert made(tmp_path, talks=talks, read=read, shows=shows) == three
    assert "nothing to do" in capsys.readouterr().err
    left = made(tmp_path, read=read, shows=shows)
    said = capsys.readouterr().err
    assert "corpora that are taken out: talks" in said
    assert "shards: 0 made" in said
    assert left == {name: own for name, own in three.items() if sources(tmp_path).get(name) in ("read", "shows")}
    ids = {
        utterance.id for split in ("train", "valid") for utterance in getattr(PreparedData(tmp_path / "data"), split)
    }
    assert ids == {f"{name}-u{number}" for name in ("read", "shows") for number in range(6)}
    alone = made(tmp_path, read=read)
    assert alone == {name: own for name, own in three.items() if sources(tmp_path).get(name) == "read"}
    assert made(tmp_path, read=read, talks=talks, shows=shows) == three


def test_a_new_name_costs_its_shards_and_no_split(
    corpora: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read, talks, _ = corpora.values()
    before = made(tmp_path, read=read, talks=talks)
    held_out = json.loads((tmp_path / "data/source.json").read_text())["held_out_by"]
    capsys.readouterr()
    after = made(tmp_path, read=read, speech=talks)
    assert "corpus talks is called speech now: its shards are made again" in capsys.readouterr().err
    kept = {name for name in before if after.get(name) == before[name]}
    assert kept == {name for name, source in sources(tmp_path).items() if source == "read"}
    now = json.loads((tmp_path / "data/source.json").read_text())["held_out_by"]
    assert now == {"read": held_out["read"], "speech": held_out["talks"]}


def test_other_corpora_are_other_data(corpora: dict[str, Path], tmp_path: Path) -> None:
    read, talks, shows = corpora.values()
    made(tmp_path, read=read, talks=talks)
    for places in ({"shows": shows}, {"read": shows, "talks": talks}):
        with pytest.raises(ProblemsError, match=r"prepared with other settings.*\n.*corpus: .*then.*\n.*NAME=PLACE"):
            made(tmp_path, **places)
