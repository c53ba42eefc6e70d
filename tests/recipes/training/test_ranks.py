"""Two ranks train as one does with twice the rounds, and together they stop, fail and go on."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_trainings import has_equal_weights, metrics, overrides
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from two_ranks import MOST_STOP_S, TwoRanks

from lst.configs.compose import build_config
from lst.errors import ProblemsError, UserError
from lst.model.config import ModelConfig
from lst.model.lst import LatentSpeechTextModel
from lst.parallel import Ranks
from lst.recipes.training.checkpoints import complete_checkpoints
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.parts import Part
from lst.recipes.training.strategies import rank_mesh, shard_model
from lst.recipes.training.train import train
from lst.runs import RunFolder

# A hybrid with a boundary head has every kind of parameter; half of the targets count less.
WORDS = (
    *("model=lst_debug_h3", "model.boundary_head=true", "patching=aligned", "loss.speech_weight=0.5"),
    *("train.precision=64-true", "train.rows=1", "train.batch_patches=384", "train.eval_every=7"),
    "train.eval_items=2",
    *("train.max_steps=14", "train.checkpoint_every=7", "train.keep_checkpoints=2"),
)
TWO = "train.devices=2"


def words(run: Path, name: str, *more: str) -> list[str]:
    return overrides(run, f"name={name}", *WORDS, *more)


def train_words(given: list[str]) -> str:
    """In each rank."""
    train(build_config(given))
    return "trained"


def poisoned(given: list[str], kind: str) -> str:
    """In each rank: batch 3 of rank 1 has a gradient, or a loss, that is not finite."""
    batch_loss = LanguageModelModule.batch_loss

    def poison(self: LanguageModelModule, batch: Part) -> torch.Tensor:
        loss = batch_loss(self, batch)
        if self.ranks.rank == 1 and batch.batch_index == 3 and batch.place == 3:
            if kind == "loss":
                return loss * float("nan")
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    LanguageModelModule.batch_loss = poison  # type: ignore[method-assign, assignment]
    try:
        return train_words(given)
    finally:
        LanguageModelModule.batch_loss = batch_loss  # type: ignore[method-assign]


class TensorMemory(TorchDispatchMode):
    """The most bytes that the tensors made under it held at once, those on the meta device apart.

    The peak of the whole process also counts what its allocator keeps, which differs between machines.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: kept for key, kept in self.alive.items() if not kept[0].expired()}
        self.peak_bytes = max(self.peak_bytes, sum(num_bytes for _, num_bytes in self.alive.values()))
        return made


def cut_model(on_meta: bool) -> tuple[float, bool]:
    """In each rank: most bytes of tensors over those of the weights; whether these are the whole model's."""
    shape = ModelConfig(
        local_dim=60,
        global_dim=384,
        global_layers=8,
        global_heads=6,
        global_mixers=["h3_hybrid"],
        norm="layer",
        attention_bias="all",
        boundary_head=True,
    )
    ranks = Ranks.found()
    with ranks.joined(False):
        with TensorMemory() as memory:
            with torch.device("meta" if on_meta else "cpu"):
                model = LatentSpeechTextModel(shape, 4096, seed=3).double()
            # As Lightning does for such a training.
            torch.set_default_dtype(torch.float64)
            shard_model(model, rank_mesh(ranks, "cpu", "fsdp"), "64-true")
            torch.set_default_dtype(torch.float32)
        share = memory.peak_bytes / (8 * model.num_parameters)
        whole = LatentSpeechTextModel(shape, 4096, seed=3).double().state_dict()
        own = {name: x.full_tensor() for name, x in model.state_dict().items()}
        return share, own.keys() == whole.keys() and all(torch.equal(own[name], whole[name]) for name in whole)


@pytest.fixture(scope="module")
def alone(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model ``one`` was trained on one device."""
    run = tmp_path_factory.mktemp("ranks") / "run"
    shutil.copytree(smoke_data, run)
    train(build_config(words(run, "one")))
    return run


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "hsdp"])
def test_two_ranks_are_one_with_twice_the_rounds(alone: Path, two_ranks: TwoRanks, strategy: str) -> None:
    """Every number of every row; and after the newest checkpoint is damaged, the bits of the weights."""
    nodes = 2 if strategy == "hsdp" else 1
    given = words(
        alone, strategy, f"train.devices={2 // nodes}", f"train.num_nodes={nodes}", f"train.strategy={strategy}"
    )
    assert two_ranks.call(train_words, given, num_nodes=nodes) == ["trained"] * 2
    rows, expected = metrics(alone, strategy), metrics(alone, "one")
    counts = [row["tokens"] for row in rows if "tokens" in row]
    assert len({after - before for before, after in itertools.pairwise(counts)}) > 10
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for key, value in row.items():
            assert value == pytest.approx(other[key], rel=0 if key == "tokens" else 1e-10, abs=1e-10), (
                row["step"],
                key,
            )
    folder = alone / "models" / strategy
    first = folder.rename(folder.with_name(f"{strategy}-first"))
    shutil.copytree(first, folder)
    shutil.rmtree(folder / "final")
    newest = complete_checkpoints(folder / "checkpoints")[-1]
    assert json.loads((newest / "COMPLETE").read_text())["world_size"] == 2
    part = newest / "tensors-00002-of-00002.safetensors"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    assert two_ranks.call(train_words, given, num_nodes=nodes) == ["trained"] * 2
    assert has_equal_weights(folder / "final", first / "final")
    assert metrics(alone, strategy) == metrics(alone, f"{strategy}-first")


def test_a_rank_holds_its_part_of_a_model_from_the_beginning(two_ranks: TwoRanks) -> None:
    """With the weights that one rank draws."""
    cut, is_equal = two_ranks.call(cut_model, True)[1]
    whole, _ = two_ranks.call(cut_model, False)[1]
    assert is_equal
    print("SHARES", cut, whole)
    assert cut < 0.95 < whole


def test_another_number_of_ranks_is_refused_or_resharded(alone: Path, two_ranks: TwoRanks) -> None:
    """From one to two that each hold a part, and back."""
    source, folder = alone / "models" / "one", alone / "models" / "moved"
    shutil.copytree(source, folder)
    for lost in (folder / "final", complete_checkpoints(folder / "checkpoints")[-1]):
        shutil.rmtree(lost)
    given = words(alone, "moved", TWO, "train.strategy=fsdp")
    for told in two_ranks.call(train_words, given):
        assert re.search(r"was written by 1 processes .* has 2: .*train\.reshard=true", told)
    assert two_ranks.call(train_words, [*given, "train.reshard=true"]) == ["trained"] * 2
    shutil.rmtree(folder / "final")
    # As many, of another strategy: each then holds all of it.
    assert two_ranks.call(train_words, words(alone, "moved", TWO)) == ["trained"] * 2
    shutil.rmtree(folder / "final")
    back = words(alone, "moved")
    with pytest.raises(UserError, match=r"was written by 2 processes .* has 1"):
        train(build_config(back))
    train(build_config([*back, "train.reshard=true"]))
    a, b = (load_file(one / "final" / "model.safetensors") for one in (folder, source))
    assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-9) for name in b)
    record = json.loads((folder / "settings.json").read_text())
    assert [entry["changed"].get("machine.num_processes") for entry in record["resumed"]] == [2, None, 1]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_not_finite_on_one_rank_stops_both_and_names_its_documents(
    alone: Path, two_ranks: TwoRanks, kind: str
) -> None:
    given = words(alone, f"poisoned-{kind}", TWO, "train.max_steps=4", "train.warmup_steps=0")
    told = two_ranks.call(poisoned, given, kind, most_s=MOST_STOP_S)
    assert told[0] == told[1]
    assert re.search(r"step 3: .* on batch 3 \(rank 1: documents [^;]+\)\. There is no checkpoint yet", told[0])
    assert len(metrics(alone, f"poisoned-{kind}")) == 2


def test_other_data_and_vocabulary_are_refused_on_both(alone: Path, two_ranks: TwoRanks) -> None:
    given = words(alone, "one", TWO, "seed=1")
    told = two_ranks.call(train_words, given)
    assert told[0] == told[1]
    assert "seed: 0 then, 1 now" in told[0]


def test_a_batch_is_divided_evenly_or_the_nearest_are_named() -> None:
    config = build_config(["train.rows=2", "train.row_patches=100", TWO, "train.batch_patches=1200"])
    assert (config.train.rounds, config.train.num_parts, config.train.step_patches) == (3, 6, 1200)
    with pytest.raises(ProblemsError, match=r"400 patches together.*the nearest are 800 and 1200"):
        build_config(["train.rows=2", "train.row_patches=100", TWO, "train.batch_patches=1000"])
    with pytest.raises(ProblemsError, match=r"data\.num_streams=4.*take a multiple of 3"):
        build_config(["train.devices=3"])
    with pytest.raises(ProblemsError, match="hsdp needs several machines"):
        build_config(["train.strategy=hsdp", TWO])


def test_blocks_that_compute_again_give_the_same_bits(alone: Path) -> None:
    train(build_config(words(alone, "again", "train.recompute_every=2", "train.max_steps=2", "train.warmup_steps=0")))
    train(build_config(words(alone, "kept", "train.max_steps=2", "train.warmup_steps=0")))
    folders = [RunFolder(alone).final(name) for name in ("again", "kept")]
    assert has_equal_weights(*folders)


def test_launchers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks.found() == Ranks()
    slurm = {
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert Ranks.found() == Ranks(5, 8, 1, 4)
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert Ranks.found() == Ranks(3, 4, 1, 2)
