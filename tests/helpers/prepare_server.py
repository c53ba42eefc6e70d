"""Forks processes that prepare a corpus, with everything imported: a run takes a second, so many can be killed.

A line of JSON in, ``{"folder", "options"}``: the number of the new process, leader of a group of its own, comes out. An
empty line in: the server waits for the last one to end, and its exit status comes out.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import pocketsphinx  # noqa: F401 (imported before the fork)
import sentencepiece  # noqa: F401
import sklearn.cluster  # noqa: F401
import torch

from lst.data.config import AlignConfig, DataConfig, InterleaveConfig, MixConfig
from lst.data.prepare.prepare import PrepareOptions, prepare
from lst.lazy import import_torchaudio
from lst.tokenizers.config import TokenizerConfig


def run(job: dict[str, Any]) -> None:
    values = dict(job["options"])
    nested = {"align": AlignConfig, "interleave": InterleaveConfig, "mix": MixConfig}
    data = {name: nested[name](**value) if name in nested else value for name, value in values["data"].items()}
    values["data"], values["tokenizer"] = DataConfig(**data), TokenizerConfig(**values["tokenizer"])
    prepare(Path(job["folder"]), PrepareOptions(**values))


def main() -> None:
    torch.set_num_threads(1)
    import_torchaudio()
    child = 0
    print("ready", flush=True)
    for line in sys.stdin:
        if not line.strip():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(json.loads(line))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        # By the parent, before anyone hears of the process: its group is there when it is to be killed.
        os.setpgid(child, child)
        print(child, flush=True)


if __name__ == "__main__":
    main()
