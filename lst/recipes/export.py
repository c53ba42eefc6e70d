"""``lst export``: prepared data in another format, one file a split."""

from __future__ import annotations

from lst.configs.schema import Config
from lst.data.on_the_fly import SUFFIX, write_on_the_fly
from lst.data.shards import ShardReader
from lst.errors import UserError
from lst.progress import say
from lst.recipes.run import RunFolder
from lst.storage import absolute


def export(config: Config) -> str:
    """Writes the spoken utterances of a run's prepared data as ``.on_the_fly`` files; returns what was written where.

    Raises:
        UserError: the data is not prepared or damaged, it holds no speech, or a word cannot be written.
    """
    data, folder = RunFolder.of(config).data, absolute(config.export.folder)
    verify_hash = config.data.verify == "hash"
    lines = []
    for split in ("train", "valid"):
        reader = ShardReader(data, split, verify_hash)
        if len(reader):
            count = write_on_the_fly(folder / f"{split}{SUFFIX}", reader)
            lines.append(f"{folder / f'{split}{SUFFIX}'}: {count:,} utterances")
    if not lines:
        raise UserError(f"{data} holds no speech to export: the format is of words and their speech units")
    if num_texts := len(ShardReader(data, "text", verify_hash)):
        say(f"{num_texts:,} written texts are left out: the format is of words and their speech units")
    return "\n".join(lines)
