"""``lst export``: writes prepared data in another format, as one file or one folder for each split."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lst.configs.schema import Config
from lst.data.alignment.formats.ctm import write_ctm
from lst.data.alignment.formats.textgrid import write_textgrids
from lst.data.corpora import write_on_the_fly
from lst.data.corpora.on_the_fly import SUFFIX
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.progress import say
from lst.runs import open_data
from lst.storage import Folder, absolute

# By format: the suffix of a split's file or folder, and its writer, which returns how many utterances it wrote.
_WRITERS: dict[str, tuple[str, Callable[[Folder, Iterable[Utterance], float], int]]] = {
    "on_the_fly": (SUFFIX, lambda place, utterances, _: write_on_the_fly(place, utterances)),
    "textgrid": ("", write_textgrids),
    "ctm": (".ctm", write_ctm),
}


def export(config: Config) -> str:
    """Writes the spoken utterances of a run's prepared data; returns a line for each place written.

    ``on_the_fly`` and ``ctm`` write a file for each split, ``textgrid`` a folder with a file for each utterance.

    Raises:
        UserError: the data is not prepared or damaged, has no speech, or has a word or id that cannot be written.
    """
    data, folder = open_data(config), absolute(config.export.folder)
    suffix, write = _WRITERS[config.export.format]
    lines = []
    for split, reader in (("train", data.train), ("valid", data.valid)):
        if len(reader):
            place = folder / f"{split}{suffix}"
            try:
                count = write(place, reader, data.vocabulary.unit_rate_hz)
            except (
                FileExistsError,
                FileNotFoundError,
                IsADirectoryError,
                NotADirectoryError,
                PermissionError,
            ) as error:
                raise UserError(
                    f"{place} cannot be written ({error.strerror}): give another folder with export.folder=FOLDER"
                ) from error
            lines.append(f"{place}: {count:,} utterances")
            if count < len(reader):
                say(f"{len(reader) - count:,} utterances of {split} have no aligned words and are left out")
    if not lines:
        raise UserError(f"{data.folder} holds no speech to export: the format is of words and their times")
    if num_texts := len(data.text):
        say(f"{num_texts:,} written texts are left out: the format is of words and their times")
    return "\n".join(lines)
