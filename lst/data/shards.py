"""Shards: webdataset tars of aligned utterances, each with a receipt of its content, and an index written last.

::

    shards/train-000000.tar     KEY.json + KEY.units.npy an utterance
    shards/train-000000.json    receipt: keys, bytes, SHA-256, what was left out and why
    index.json                  all shards, their hashes, and the codebook and vocabulary they were made with

A tar cut on a member's boundary, or with a flipped byte, reads without an error: so size is verified on every opening
and the hash when asked for, and every sample's members are counted.
"""

from __future__ import annotations

import io
import json
import tarfile
import tokenize
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from lst.data.utterance import Utterance
from lst.errors import UserError, raise_problems
from lst.files import read_json, sha256_file, staged, write_json

INDEX_FILE = "index.json"
SHARD_FOLDER = "shards"
VERSION = 1
_REMEDY = "Run lst prepare again with the same settings: it makes anew what is damaged, and nothing else."


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}"


def write_shard(
    folder: Path,
    name: str,
    utterances: Sequence[Utterance],
    skipped: Sequence[dict[str, str]],
    made_from: str,
    units_sha256: str = "",
) -> dict[str, Any]:
    """Writes one shard and, last, its receipt.

    Args:
        folder: where ``name.tar`` and ``name.json`` go.
        name: without suffix.
        utterances: the content, in order.
        skipped: what was left out: ``{"id", "reason"}`` each.
        made_from: fingerprint of what the shard was made from; a re-run keeps a shard whose fingerprint is the same.
        units_sha256: hash of the codebook that gave the units.

    Returns:
        The receipt.
    """
    path = folder / f"{name}.tar"
    # Fixed owner, mode and time: the same utterances give the same bytes, hence the same hash.
    with (
        staged(path) as temporary,
        open(temporary, "wb") as file,
        webdataset.TarWriter(file, user="lst", group="lst", mode=0o644, mtime=0) as tar,
    ):
        for utterance in utterances:
            npy = io.BytesIO()
            np.lib.format.write_array(npy, utterance.units.astype("<u2"), allow_pickle=False)
            record = json.dumps(utterance.to_record(), ensure_ascii=False).encode()
            tar.write({"__key__": utterance.id, "json": record, "units.npy": npy.getvalue()})
    receipt = {
        "version": VERSION,
        "name": name,
        "made_from": made_from,
        "units_sha256": units_sha256,
        "num_utterances": len(utterances),
        "num_units": int(sum(utterance.num_frames for utterance in utterances)),
        "num_bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "skipped": list(skipped),
    }
    write_json(folder / f"{name}.json", receipt)
    return receipt


def finished_receipt(folder: Path, name: str, made_from: str) -> dict[str, Any] | None:
    """The receipt of a shard that is already there, whole and made from the same things; else None."""
    receipt_path, path = folder / f"{name}.json", folder / f"{name}.tar"
    if not receipt_path.exists() or not path.exists():
        return None
    try:
        receipt = read_json(receipt_path, "the shard's receipt", _REMEDY)
    except UserError:
        return None
    if receipt["made_from"] != made_from or path.stat().st_size != receipt["num_bytes"]:
        return None
    return receipt if sha256_file(path) == receipt["sha256"] else None


def verify_shards(data_folder: Path, index: dict[str, Any], full: bool) -> None:
    """Raises one error naming every shard that is missing, cut short or altered.

    Args:
        data_folder: the folder that holds ``index.json``.
        index: its content.
        full: compare hashes too, not only sizes.
    """
    problems = []
    for receipts in index["splits"].values():
        for receipt in receipts:
            path = data_folder / SHARD_FOLDER / f"{receipt['name']}.tar"
            if not path.exists():
                problems.append(f"{path.name} is missing")
            elif (size := path.stat().st_size) != receipt["num_bytes"]:
                problems.append(f"{path.name} has {size:,} bytes, {receipt['num_bytes']:,} were written")
            elif full and sha256_file(path) != receipt["sha256"]:
                problems.append(f"{path.name} was altered: its SHA-256 is not the recorded {receipt['sha256'][:12]}…")
    raise_problems(f"shards in {data_folder / SHARD_FOLDER}", problems, _REMEDY)


def load_index(data_folder: Path) -> dict[str, Any]:
    """Reads the index of a prepared corpus; raises ``UserError`` when preparing has not finished."""
    index = read_json(data_folder / INDEX_FILE, "the index of the prepared data", "Run lst prepare (again) first.")
    if index.get("version") != VERSION:
        raise UserError(
            f"{data_folder / INDEX_FILE} has version {index.get('version')}, this project reads {VERSION}: "
            "prepare again in another run_dir"
        )
    return index


class ShardReader(Sequence[Utterance]):
    """The utterances of one split, by index.

    Args:
        data_folder: the folder that holds ``index.json``.
        split: ``train``, ``valid`` or ``text``.
        verify_hash: compare every shard's hash on opening; sizes are always compared.

    Raises:
        UserError: the index is missing, or a shard is missing, cut short or altered.
    """

    def __init__(self, data_folder: Path, split: str, verify_hash: bool = True) -> None:
        index = load_index(data_folder)
        self.receipts = index["splits"].get(split, [])
        verify_shards(data_folder, {"splits": {split: self.receipts}}, full=verify_hash)
        self.folder = data_folder / SHARD_FOLDER
        self._ends = np.cumsum([receipt["num_utterances"] for receipt in self.receipts], dtype=np.int64).tolist()
        self._cache: dict[int, list[Utterance]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends else 0

    @property
    def shard_sizes(self) -> list[int]:
        """Utterances of each shard, in order: what a shuffle of few shards at a time goes by."""
        return [receipt["num_utterances"] for receipt in self.receipts]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        index %= len(self)
        shard = bisect_right(self._ends, index)
        if shard not in self._cache:
            self._cache[shard] = list(self._read(shard))
        return self._cache[shard][index - (self._ends[shard - 1] if shard else 0)]

    def _read(self, shard: int) -> Iterator[Utterance]:
        receipt = self.receipts[shard]
        path = self.folder / f"{receipt['name']}.tar"
        try:
            yield from self._read_samples(path, receipt["num_utterances"])
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(f"shard {path} cannot be read ({error}). {_REMEDY}") from error

    def _read_samples(self, path: Path, num_utterances: int) -> Iterator[Utterance]:
        count = 0
        with tarfile.open(path, "r:") as tar:
            pending: dict[str, bytes] = {}
            key = ""
            for member in tar:
                key_of_member, _, kind = member.name.partition(".")
                if key_of_member != key and pending:
                    raise _broken(path, key, f"has only {', '.join(pending)}")
                key = key_of_member
                file = tar.extractfile(member)
                pending[kind] = file.read() if file else b""
                if pending.keys() == {"json", "units.npy"}:
                    yield self._decode(path, key, pending)
                    pending = {}
                    count += 1
        if pending or count != num_utterances:
            raise _broken(path, key, f"is the last of {count} samples, {num_utterances} were written")

    @staticmethod
    def _decode(path: Path, key: str, members: dict[str, bytes]) -> Utterance:
        try:
            units = np.lib.format.read_array(io.BytesIO(members["units.npy"]), allow_pickle=False)
            return Utterance.from_record(json.loads(members["json"]), units)
        except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError) as error:
            # numpy parses an array's header as Python's tokens, and lets the tokenizer's errors through.
            raise _broken(path, key, f"cannot be read ({error})") from error


def _broken(path: Path, key: str, what: str) -> UserError:
    return UserError(f"shard {path}: sample {key!r} {what}. {_REMEDY}")
