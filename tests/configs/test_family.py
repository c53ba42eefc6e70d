"""``model=family``: sizes and rates follow from a depth, given values win, and the page has the table of the code."""

from __future__ import annotations

import copy
import functools
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from repository import ROOT

from lst.cli import main
from lst.configs.compose import SYNTHETIC, build_config, to_yaml
from lst.configs.family import RULES
from lst.configs.schema import Config
from lst.errors import UserError
from lst.model.config import FAMILY_DEPTHS
from lst.model.lst import LatentSpeechTextModel

PAGE = ROOT / "docs" / "guides" / "sizes.md"
SHOWN_DEPTHS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32)
ARMS = {
    "baseline": ("model=family", "patching=none"),
    "LST": ("model=family", "patching=static"),
    "H3 hybrid": ("model=family_h3", "patching=none"),
}
# Ids of the vocabularies for which parameters are listed: a small one and the published one.
VOCABULARIES = (1_000, 32_508)


@functools.cache
def built(*words: str) -> Config:
    return build_config(list(words))


def family(depth: int, *words: str) -> Config:
    """A size of the family, from one reading of the YAML for all depths."""
    config = copy.deepcopy(built(*words))
    config.model.depth = depth
    config.settle(set())
    return config


DEPTHS = range(FAMILY_DEPTHS[0], FAMILY_DEPTHS[1] + 1)


@pytest.mark.parametrize("arm", ARMS)
def test_every_depth_of_every_arm_is_a_valid_training(arm: str) -> None:
    for depth in DEPTHS:
        config = family(depth, *ARMS[arm])
        assert config.problems() == []
        assert config.model.global_layers == len(config.model.mixers) == depth
        assert config.model.has_local_modules == (arm == "LST")
        assert config.model.sub_queries * config.model.local_dim >= config.model.global_dim


def test_sizes_and_batches_never_shrink_with_the_depth() -> None:
    configs = [family(depth, *ARMS["LST"]) for depth in DEPTHS]
    for key in set(RULES) - {"train.beta2", "train.rows"}:
        values = [attrgetter(key)(config) for config in configs]
        assert values == sorted(values), key
    batches = [config.train.rows * config.train.row_patches for config in configs]
    assert batches == sorted(batches)
    assert (batches[0], batches[-1]) == (512, 524_288)


def build(depth: int, *words: str) -> Config:
    return build_config(["model=family", f"model.depth={depth}", *words])


def test_given_values_win_and_what_depends_on_them_follows() -> None:
    config = build(6, "model.global_dim=128", "train.rows=2", "train.row_patches=256", "model.decoder_layers=5")
    assert (config.model.global_dim, config.model.global_heads, config.model.local_dim) == (128, 2, 64)
    assert (config.model.decoder_layers, config.model.encoder_layers) == (5, 1)
    assert (config.train.rows, config.train.row_patches) == (2, 256)
    assert (config.train.learning_rate, config.train.beta2) == (1e-3, 0.9912)
    assert build(6, "train.learning_rate=0.5").train.learning_rate == 0.5


def test_values_of_the_users_files_win_and_shipped_ones_give_way(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.yaml").write_text("rows: 3\nmax_steps: 7\n")
    train = build(4, f"--config-dir={tmp_path}", "train=mine").train
    assert (train.rows, train.max_steps, train.row_patches) == (3, 7, 1024)
    shipped = build(4, "train=debug").train
    assert (shipped.max_steps, shipped.rows, shipped.row_patches) == (8, 1, 1024)


def test_a_model_of_the_users_may_build_on_the_family(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("defaults:\n  - family\n  - _self_\ndepth: 5\nlocal_dim: 192\n")
    config = build_config([f"model={path}"])
    assert (config.model.global_layers, config.model.local_dim, config.model.local_heads) == (5, 192, 3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("model=family model.depth=1", "model.depth=1: allowed are 2 to 32"),
        ("model=family model.depth=33", "model.depth=33: allowed are 2 to 32"),
        ("model=family model.depth=3.5", "model.depth=3.5: Value '3.5'"),
        ("model=lst_tiny model.depth=3", "model.depth=3: has no effect with model.family=false"),
        ("model=family model.global_dim=65", "model.global_dim=65: must be an even multiple of model.global_heads=1"),
    ],
)
def test_wrong_depths_and_widths_are_refused(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words.split(), "--cfg", "job"]) == 2
    assert expected in capsys.readouterr().err


def test_tasks_without_a_batch_of_patches_have_no_family() -> None:
    with pytest.raises(UserError, match=r"model\.family=true: sizes by depth are of lst train"):
        SYNTHETIC.build(["model.family=true"])


def test_what_follows_is_shown_and_stored(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["model=family", "model.depth=3", "patching=static"]
    assert main(["train", *words, "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert "  global_dim: 128\n" in shown
    assert "  beta2: 0.9912\n" in shown
    assert main(["train", *words, f"run_dir={tmp_path}", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    for part in ("depth 3: global_layers=3, global_dim=128", "local_dim=64", "learning_rate=0.001, beta2=0.9912"):
        assert part in plan
    # A stored configuration is read as it is, and not derived again.
    assert to_yaml(build_config(words)) == shown.removesuffix("\n") + "\n"


def table_of_settings() -> str:
    """A row a depth: what follows from it."""
    heads = "depth | width × heads | local width × heads | encoder + decoder layers | window_tokens | batch | rate | β₂"
    rows = []
    for depth in SHOWN_DEPTHS:
        config = family(depth, *ARMS["LST"])
        model, train = config.model, config.train
        rows.append(
            f"| {depth} | {model.global_dim} × {model.global_heads} | {model.local_dim} × {model.local_heads} | "
            f"{model.encoder_layers} + {model.decoder_layers} | {model.window_tokens} | {train.rows} × "
            f"{train.row_patches:,} | {train.learning_rate:g} | {train.beta2:g} |"
        )
    return "\n".join([f"| {heads} |", "|---|---|---|---|---|---|---|---|", *rows])


def table_of_parameters() -> str:
    """A row a depth: parameters of each arm without embeddings, and with them for two vocabularies."""
    columns = [f"{name}, {what}" for name in ARMS for what in ("alone", "1,000 ids", "32,508 ids")]
    rows = []
    for depth in SHOWN_DEPTHS:
        cells = []
        for words in ARMS.values():
            config = family(depth, *words)
            with torch.device("meta"):
                model = LatentSpeechTextModel(config.model, VOCABULARIES[0])
            # Embedding and head have a row an id each.
            an_id = (model.num_parameters - model.num_non_embedding_parameters) // VOCABULARIES[0]
            counts = [model.num_non_embedding_parameters + size * an_id for size in (0, *VOCABULARIES)]
            cells += map(short, counts)
        rows.append(f"| {depth} | {' | '.join(cells)} |")
    return "\n".join([f"| depth | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1), *rows])


def short(count: int) -> str:
    """Three digits: ``0.985 M``, ``12.3 M``, ``6.45 B``."""
    value, unit = (count / 1e9, "B") if count >= 999.5e6 else (count / 1e6, "M")
    return f"{value:.{3 - len(str(int(value))) if value >= 1 else 3}f} {unit}"


def table_of_rules() -> str:
    return "\n".join(
        ["| option | follows as |", "|---|---|", *(f"| `{key}` | {rule} |" for key, (rule, _) in RULES.items())]
    )


@pytest.mark.parametrize("table", [table_of_rules, table_of_settings, table_of_parameters])
def test_the_page_has_the_tables_of_the_code(table) -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), f"docs/guides/sizes.md needs this table:\n\n{table()}"
