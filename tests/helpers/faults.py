"""A miniature run whose commands are stopped at every event of a file, and what they must leave when run again."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import forked
from repository import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SERVER = ROOT / "tests" / "helpers" / "fault_server.py"
PREPARE = "num_workers=1 corpus={corpus}"
STEPS = "train.checkpoint_every=1 train.eval_every=2 train.rows=1 data.num_loader_workers=0"
# The words of each command; every one begins with what those before it left, quickstart with nothing.
COMMANDS = {
    "prepare": PREPARE,
    "train": f"name=static patching=static train.max_steps=2 train.keep_checkpoints=1 {STEPS}",
    "eval": "",
    "report": "",
    "quickstart": f"{PREPARE} train.max_steps=1 train.warmup_steps=0 {STEPS}",
}
KINDS = ("before", "after", "full")
LEFT_OVER = re.compile(r"\.partial|\.lock|lock\.json")
_DRAWN = re.compile(r"[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?( UTC)?")
_SENTENCE = "the small boat went over lake before night and rain fell on green hill"
_MODE = "<LST MODE SEP>"


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit status, what it printed, and its events in order, without what is drawn in names."""

    status: int
    output: str
    events: list[str]


def write_corpus(folder: Path) -> None:
    """Utterances as units, so that neither audio is read nor words are aligned."""
    folder.mkdir()
    for split, count in (("train", 4), ("valid", 3)):
        rng = random.Random(split)
        lines = [json.dumps({"file_id": f"{split}_{n}", "interleaved": _interleaved(rng)}) + "\n" for n in range(count)]
        (folder / f"{split}.on_the_fly").write_text("".join(lines))


def _interleaved(rng: random.Random) -> str:
    words = ["[SIL]", *rng.sample(_SENTENCE.split(), 8)]
    return "".join(
        f"{_MODE}TEXT {word}{_MODE}HUBERT {' '.join(str(rng.randrange(20)) for _ in range(rng.randrange(3, 7)))}"
        for word in words
    )


class Miniature:
    """A run's folder at one place, before and after each command.

    Args:
        folder: for all that is written.

    Attributes:
        whole: what each command leaves when nothing stops it, as ``contents`` tells it.
        events: of each command, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.run_dir = folder, folder / "run"
        self.process = forked.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "server.txt").open("w"),
            text=True,
        )
        write_corpus(folder / "corpus")
        self.whole: dict[str, dict[str, str]] = {}
        self.events: dict[str, list[str]] = {}
        assert self._answer() == "ready", (folder / "server.txt").read_text()

    def measure(self, command: str) -> list[str]:
        """The events of a command that nothing stops; the commands before it are run first."""
        if command not in self.events:
            earlier = {"train": "prepare", "eval": "train", "report": "eval"}.get(command)
            if earlier is not None:
                self.measure(earlier)
            self._begin(command)
            outcome = self.run(command)
            assert outcome.status == 0, outcome.output
            self.whole[command], self.events[command] = contents(self.run_dir), outcome.events
            shutil.copytree(self.run_dir, self.folder / f"after {command}")
        return self.events[command]

    def _begin(self, command: str) -> None:
        """Puts the run's folder as it is before a command."""
        shutil.rmtree(self.run_dir, ignore_errors=True)
        earlier = {"train": "prepare", "eval": "train", "report": "eval"}.get(command)
        if earlier is None:
            self.run_dir.mkdir()
        else:
            shutil.copytree(self.folder / f"after {earlier}", self.run_dir)

    def run(self, command: str, number: int = -1, kind: str = "before") -> Outcome:
        """Runs a command in the folder as it is, and stops it at an event."""
        events, output = self.folder / "events.txt", self.folder / "output.txt"
        words = COMMANDS[command].format(corpus=self.folder / "corpus").split()
        job = {
            "words": [command, "experiment=smoke", f"run_dir={self.run_dir}", *words],
            "root": str(self.run_dir),
            "number": number,
            "kind": kind,
            "events": str(events),
            "output": str(output),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        status = int(self._answer())
        return Outcome(status, output.read_text(), _DRAWN.sub("*", events.read_text()).splitlines())

    def problems_after(self, command: str, number: int, kind: str) -> list[str]:
        """Stops a command at an event and runs it again; a line for everything that is then not as it must be."""
        expected = self.measure(command)
        self._begin(command)
        stopped = self.run(command, number, kind)
        if stopped.events[: number + 1] != expected[: number + 1]:
            return [f"other events than before: {stopped.events[number : number + 1]}"]
        problems = _full_problems(stopped, self.run_dir) if kind == "full" else _kill_problems(stopped)
        again = self.run(command)
        if again.status != 0:
            return [*problems, f"the second run ended with {again.status}: {again.output[-600:]}"]
        return [*problems, *_differences(contents(self.run_dir), self.whole[command])]

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """Ends the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def _kill_problems(stopped: Outcome) -> list[str]:
    return [] if stopped.status == -9 else [f"it was not killed but ended with {stopped.status}: {stopped.output}"]


def _full_problems(stopped: Outcome, run_dir: Path) -> list[str]:
    """A full disk is named in one line, and nothing half-written stays. What is no loss may go on without a word."""
    problems = [f"left over: {name}" for name in contents(run_dir) if LEFT_OVER.search(name)]
    if stopped.status == 0:
        return problems
    last = stopped.output.strip().splitlines()[-1]
    is_told = re.match(r"lst \w+: the disk that holds .+ is full: .+ was not written", last)
    if stopped.status != 2 or "Traceback" in stopped.output or not is_told:
        problems.append(f"a full disk ended it with {stopped.status}: {stopped.output[-600:]}")
    return problems


def _differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    return [
        *(f"missing: {name}" for name in expected.keys() - found.keys()),
        *(f"left over: {name}" for name in found.keys() - expected.keys()),
        *(f"other content: {name}" for name in found.keys() & expected.keys() if found[name] != expected[name]),
    ]


def contents(folder: Path) -> dict[str, str]:
    """What each file of a folder holds, by name, apart from times: a hash, or the scalars of TensorBoard's files."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[f"{name}/"] = ""
            if path.name == "tensorboard":
                found[f"{name}/*"] = _scalars(path)
        elif path.parent.name != "tensorboard":
            content = path.read_bytes()
            if path.suffix == ".html":
                content = _TIME.sub("TIME", content.decode()).encode()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def _scalars(folder: Path) -> str:
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    tags = sorted(events.Tags()["scalars"])
    return json.dumps({tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags})


def needs_space(event: str) -> bool:
    """Whether a full disk lets an event fail."""
    return not event.startswith(("remove", "rmdir"))


def differs_after(event: str) -> bool:
    """Whether the disk after an event is not the one before the next: a file that is written holds its first bytes."""
    return event.startswith(("write", "append"))
