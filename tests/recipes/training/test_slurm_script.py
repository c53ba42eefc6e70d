"""The SLURM script of the guide: Bash reads it, its words are a training of as many processes, and it queues again."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from repository import ROOT

from lst.commands import job_of
from lst.configs.schema import Config

SCRIPT = ROOT / "docs" / "guides" / "train_slurm.sh"


def run_script(folder: Path, status: int, *words: str) -> tuple[int, list[str], str]:
    """Runs the script with an srun that ends with a status.

    Returns:
        The script's own status, the words that srun was given, and those of scontrol.
    """
    for name, code in (("srun", status), ("scontrol", 0)):
        tool = folder / name
        tool.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > "{folder}/{name}.words"\nexit {code}\n')
        tool.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "RUN": str(folder / "a run"),
    }
    done = subprocess.run(["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    found = [folder / f"{name}.words" for name in ("srun", "scontrol")]
    given, queued = (path.read_text().splitlines() if path.exists() else [] for path in found)
    return done.returncode, given, " ".join(queued)


def test_bash_reads_it() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_its_training_has_as_many_processes_as_the_job(tmp_path: Path) -> None:
    status, given, _ = run_script(tmp_path, 0, "train.max_steps=70000")
    assert status == 0
    assert given[:3] == ["--kill-on-bad-exit=1", "lst", "train"]
    config = job_of("train").build(given[3:])
    assert isinstance(config, Config)
    assert (config.run_dir, config.train.max_steps) == (str(tmp_path / "a run"), 70000)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", SCRIPT.read_text(), re.MULTILINE))
    assert (config.train.num_nodes, config.train.devices) == (int(asked["nodes"]), int(asked["ntasks-per-node"]))
    assert asked["gpus-per-node"] == asked["ntasks-per-node"]
    assert config.train.preempt_s is not None
    assert config.train.preempt_s < int(asked["signal"].partition("@")[2])


@pytest.mark.parametrize(("status", "queued"), [(138, "requeue 17"), (2, ""), (137, "")])
def test_only_a_training_that_has_saved_is_queued_again(tmp_path: Path, status: int, queued: str) -> None:
    assert run_script(tmp_path, status)[::2] == (status, queued)
