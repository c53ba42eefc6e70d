"""Numbers and texts of a training for TensorBoard: one file of events, to which rows are added as to ``metrics.jsonl``.

TensorBoard's own writer adds them in a thread, where a full disk ends in a traceback.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import soundfile
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from lst.storage import append_bytes, read_bytes, remove_folder

EVENTS_FILE = "events.out.tfevents.0000000000.lst"
_NAMES, _SOUND = {"loss": "train_loss"}, "spoken"


class TensorboardFile:
    """A folder for TensorBoard, made anew, so that no step is there twice.

    Args:
        folder: which is replaced.
        rows: of ``metrics.jsonl`` that are there already.
    """

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        self.path = folder / EVENTS_FILE
        remove_folder(folder)
        self._append([Event(wall_time=time.time(), file_version="brain.Event:2"), *map(self._event, rows)])

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds the numbers and texts of a row by their names; the loss is ``train_loss``."""
        self._append([self._event(row)])

    def _append(self, events: Iterable[Event]) -> None:
        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for event in events:
            writer.write(event.SerializeToString())
        append_bytes(self.path, buffer.getvalue())

    def _event(self, row: Mapping[str, Any]) -> Event:
        row = _flat(row)
        values = [
            Summary.Value(tag=_NAMES.get(name, name), simple_value=value)
            for name, value in row.items()
            if name != "step" and value is not None and not isinstance(value, str)
        ]
        for name, value in row.items():
            # Sound lies in the training's folder; somebody may have removed it since.
            if name == _SOUND and (place := self.path.parent.parent / value).exists():
                values.append(_audio(name, place))
            elif name != _SOUND and isinstance(value, str):
                values.append(text_pb(name, value).value[0])
        return Event(wall_time=time.time(), step=row["step"], summary=Summary(value=values))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose numbers by source have names of their own: ``source_losses/talks``."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        found |= {f"{name}/{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _audio(name: str, place: Path) -> Summary.Value:
    content = read_bytes(place)
    facts = soundfile.info(io.BytesIO(content))
    audio = Summary.Audio(
        sample_rate=facts.samplerate,
        num_channels=facts.channels,
        length_frames=facts.frames,
        encoded_audio_string=content,
        content_type="audio/wav",
    )
    return Summary.Value(tag=name, audio=audio)
