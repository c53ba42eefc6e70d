"""Preparing behind a URL, in parts, and on Ray: the same bytes as in a folder, in one go, in one process."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from places import names_below

from lst import storage
from lst.cli import main
from lst.configs.compose import build_config
from lst.data.corpora import row_checks
from lst.data.prepare.fitting import make_artefacts
from lst.data.prepare.gathered import gather
from lst.data.prepare.options import find_origin
from lst.data.prepare.prepare import prepare
from lst.data.prepare.shard_tasks import make_shard, plan_shards
from lst.data.prepared import PreparedData
from lst.data.shards import ShardReader
from lst.errors import ProblemsError, StorageError, UserError
from lst.runs.folder import open_data
from lst.storage import Url, sha256
from lst.storage.locks import folder_lock
from tests.data.conftest import MakeCorpus, files_in, hashes, options, times


def remote_hashes(url: Url) -> dict[str, str]:
    return {name: storage.sha256(url / name) for name in names_below(url)}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_behind_a_url_the_same_files_are_made(
    prepared: Path, corpus: Path, tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``local://`` is a file system like any other to fsspec, and other processes see it."""
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path / "cache"))
    url = Url(f"local://{tmp_path}/bucket/data")
    prepare(url, options(corpus, num_workers=num_workers))
    assert remote_hashes(url) == hashes(prepared)
    before = times(tmp_path / "bucket")
    prepare(url, options(corpus))
    assert times(tmp_path / "bucket") == before
    (tmp_path / "bucket/data/shards/train-000001.tar").write_bytes(b"cut")
    (tmp_path / "bucket/data/text.model").unlink()
    prepare(url, options(corpus))
    assert remote_hashes(url) == hashes(prepared)


def test_every_command_reads_data_from_data_dir(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    url = f"memory://test_prepare_places/{tmp_path.name}"
    words = [
        f"run_dir={tmp_path / 'run'}",
        f"data_dir={url}",
        f"corpus={corpus}",
        "num_workers=1",
        "data.valid_share=0.25",
        "data.shard_utterances=2",
        "tokenizer.num_units=16",
        "tokenizer.text_vocab_size=300",
        "card.after_prepare=false",
    ]
    assert main(["prepare", *words]) == 0
    assert remote_hashes(Url(url)) == hashes(prepared)
    assert files_in(tmp_path / "run") == ["commands.json"]
    data, local = open_data(build_config(words)), PreparedData(prepared)
    assert data.fingerprint == local.fingerprint
    assert [item.to_record() for item in data.train] == [item.to_record() for item in local.train]
    assert data.manifest == local.manifest
    assert len(data.manifest) == 8
    assert main(["export", f"run_dir={tmp_path / 'run'}", f"data_dir={url}", f"export.folder={tmp_path / 'out'}"]) == 0
    assert files_in(tmp_path / "out") == ["train.on_the_fly", "valid.on_the_fly"]


def test_where_the_audio_lies_does_not_change_the_data(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    for name in ("here", "there"):
        prepare(tmp_path / f"of_{name}", options(make_corpus(tmp_path / name)))
    here, there = (PreparedData(tmp_path / f"of_{name}") for name in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    for split in ("train", "valid"):
        of_here, of_there = (
            {path.name: sha256(path) for path in (tmp_path / f"of_{name}/shards").glob(f"{split}*.tar")}
            for name in ("here", "there")
        )
        assert of_here == of_there
        assert of_here
    assert {row.path.parent for row in there.manifest.values()} == {tmp_path / "there"}


def test_parts_of_a_job_array_make_the_same(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks .*: a part of the shards can be made once lst prepare part=plan"):
        prepare(tmp_path, options(corpus, part="0/3"))
    assert prepare(tmp_path, options(corpus, part="plan")) is None
    assert not (tmp_path / "shards").exists()
    made = []
    for part in ("2/3", "0/3", "1/3", "1/3"):
        assert prepare(tmp_path, options(corpus, part=part)) is None
        made.append(sorted(path.name for path in (tmp_path / "shards").glob("*.tar")))
    assert [len(names) for names in made] == [1, 3, 4, 4]
    assert not (tmp_path / "index.json").exists()
    before = times(tmp_path / "shards")
    prepare(tmp_path, options(corpus))
    assert times(tmp_path / "shards") == before
    assert hashes(tmp_path) == hashes(prepared)
    with pytest.raises(ProblemsError, match="was prepared with other settings"):
        prepare(tmp_path, options(corpus, part="0/3", seed=4))


def test_a_part_with_other_settings_leaves_the_plan_to_the_others(corpus: Path, tmp_path: Path) -> None:
    prepare(tmp_path, options(corpus, part="plan"))
    before = times(tmp_path)
    with pytest.raises(ProblemsError, match=r"other settings(.*\n)+.*seed: 0 then, 4 now"):
        prepare(tmp_path, options(corpus, part="0/3", seed=4))
    assert times(tmp_path) == before
    assert prepare(tmp_path, options(corpus, part="0/3")) is None
    assert {**before, **times(tmp_path)}.keys() > before.keys()


def test_a_command_for_a_part_is_not_recorded_as_the_one_that_makes_the_data(corpus: Path, tmp_path: Path) -> None:
    words = [
        "prepare",
        f"run_dir={tmp_path}",
        f"corpus={corpus}",
        "num_workers=1",
        "data.valid_share=0.25",
        "tokenizer.num_units=16",
        "tokenizer.text_vocab_size=300",
    ]
    for part in ("plan", "0/1"):
        assert main([*words, f"part={part}"]) == 0
        assert not (tmp_path / "commands.json").exists()
    assert main(words) == 0
    assert "prepare" in (tmp_path / "commands.json").read_text()


@pytest.mark.parametrize("changes", [{"num_workers": 2}, {"executor": "ray"}])
def test_memory_of_one_process_is_not_shared_by_several(corpus: Path, changes: dict[str, object]) -> None:
    url = Url("memory://test_prepare_places/shared")
    with pytest.raises(UserError, match=r"data_dir=memory://.* belongs to one process"):
        prepare(url, options(corpus, **changes))
    assert names_below(url) == []


def test_ray_is_asked_for_before_the_corpus_is_read(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="executor=ray needs the package ray"):
        prepare(tmp_path, options(corpus, executor="ray", address="nonsense"))
    assert files_in(tmp_path) == []


def test_the_home_folder_is_known_by_its_sign(
    corpus: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(corpus.parent))
    wanted = options(None)
    wanted = dataclasses.replace(wanted, corpus=f"~/{corpus.name}", text="~/texts.txt")
    assert (wanted.corpus, wanted.text) == (str(corpus), str(corpus.parent / "texts.txt"))
    assert find_origin(wanted).files["corpus_files"] is not None
    prepare(tmp_path / "data", dataclasses.replace(wanted, text=None))
    assert hashes(tmp_path / "data") == hashes(prepared)
    assert storage.locate("~/a") == storage.absolute("~/a") == corpus.parent / "a"
    assert storage.locate("memory://~/a") == "memory://~/a"


def test_bad_network_leaves_no_utterance_out(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    probe = row_checks.probe_audio

    def sometimes(path: Path | str, member: str = "") -> object:
        if str(path).endswith("utt_3.wav"):
            raise StorageError(f"{path} cannot be reached (TimeoutError)")
        return probe(path, member)

    monkeypatch.setattr(row_checks, "probe_audio", sometimes)
    with pytest.raises(StorageError, match=r"utt_3\.wav cannot be reached"):
        prepare(tmp_path / "data", options(corpus, on_error="skip", max_skipped_share=0.5))


def test_a_folder_that_another_process_prepares_is_refused(corpus: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        for part in (None, "plan", "0/2"):
            with pytest.raises(UserError, match=r"is being prepared by another process \(process \d+ on "):
                prepare(tmp_path, options(corpus, part=part))
        assert files_in(tmp_path) == [".lock"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["executor=slurm"], "executor=slurm: allowed are local, ray"),
        (["address=auto"], "address=auto is of a Ray cluster: add executor=ray"),
        (["part=3/3"], "part=3/3: '3/3' is not i/n with 0 ≤ i < n; or plan"),
        (["part=all"], "part=all: 'all' is not i/n"),
        (["data_dir="], "data_dir= is empty"),
        (["export.format=csv"], "export.format=csv: allowed are on_the_fly, textgrid, ctm"),
        (["data.on_the_fly_units=-1"], r"data.on_the_fly_units=-1: allowed are 0 to 65536"),
    ],
)
def test_impossible_options_are_named(words: list[str], told: str) -> None:
    with pytest.raises(ProblemsError) as raised:
        build_config(words)
    assert told in str(raised.value)


def test_summary_counts_what_was_made(corpus: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "shards/train-000001.tar").unlink()
    prepare(copy, options(corpus))
    assert "shards: 1 made, 3 there before, of 4; 0.00 h of speech; 0 utterances failed" in capsys.readouterr().err
    reader = ShardReader(copy, "train")
    assert reader.shard_sizes == [2, 2, 2]


def test_a_node_that_does_not_see_the_files_is_named(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster whose nodes have no file system in common: the run ends, no utterance counts as faulty."""
    corpus = make_corpus(tmp_path / "corpus")
    folder = tmp_path / "data"
    prepare(folder, options(corpus, part="plan"))
    origin = find_origin(options(corpus))
    gathered = gather(folder, options(corpus), origin)
    units, _, _ = make_artefacts(folder, gathered, origin, options(corpus))
    task = plan_shards(folder, gathered, units, origin.made_from, options(corpus).data, {})[0]
    assert make_shard(dataclasses.replace(task, host="elsewhere"))["num_utterances"] == 2
    missing = Path(gathered.rows[1].path)
    missing.unlink()
    assert len(make_shard(task)["skipped"]) == 1
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    told = rf"1 files that .* has are not there on node node-7 \(the first is {missing}\): .*same path on every node"
    with pytest.raises(UserError, match=told):
        make_shard(task)


def test_a_storage_that_fails_ends_the_run_and_counts_no_utterance(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(row: object) -> None:
        raise StorageError("s3://bucket/utt_0.wav cannot be reached (timeout)")

    monkeypatch.setattr("lst.data.prepare.utterances.read_row_audio", unreachable)
    monkeypatch.setattr("lst.data.prepare.fitting.read_row_audio", unreachable)
    with pytest.raises(StorageError, match="cannot be reached"):
        prepare(tmp_path, options(corpus))
    assert not (tmp_path / "shards").exists()


def test_a_corpus_that_is_not_there_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", f"corpus={tmp_path}/nowhere", f"run_dir={tmp_path}/run"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
