"""Corpora behind a URL: read from a local mirror in which audio files are empty.

Lists and transcripts are fetched, and of each tar the members that are not audio. All other files are empty in the
mirror. Rows and problems then get the URLs back: a row names its remote audio, and no audio is copied.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lst import storage
from lst.data.audio import AUDIO_SUFFIXES, open_location
from lst.data.audio.tars import TAR_ERRORS, members, open_tar
from lst.data.corpora.layouts import LAYOUTS
from lst.data.corpora.layouts.listing import LHOTSE, LIST_SUFFIXES, PLAIN, Listing
from lst.data.corpora.layouts.tar_samples import END_BYTES
from lst.data.corpora.manifest import JSON_SUFFIXES
from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.errors import ProblemsError, UserError
from lst.progress import Progress
from lst.storage import FileList, Url, list_files

FETCHED_TOGETHER = 512


class CorpusMirror:
    """A local folder that mirrors a remote corpus, with empty files in place of audio.

    Args:
        url: of a folder or of a file.
        base: an empty local folder, which mirrors the storage's root.
        files: the corpus's files, if they have been listed already.

    Attributes:
        path: the local path of ``url``; its folders have the same names.

    Raises:
        UserError: there is nothing at the URL, or it cannot be reached.
    """

    def __init__(self, url: str, base: Path, files: FileList | None = None) -> None:
        protocol, _, place = url.partition("://")
        self.prefix, self.base = f"{protocol}://{'/' * place.startswith('/')}", base
        self.path = base / place.strip("/")
        # The root of a storage is no corpus.
        names = (files or list_files(self.url_of(self.path))).names if place.strip("/") else []
        if not names:
            raise UserError(
                f"corpus {url} does not exist or is empty. Name a folder of audio and transcripts, or a manifest file."
            )
        if list(names) != [""]:
            self._take(self.path, names, reads_tars=True)
            return
        folder = self.path.parent
        self._take(folder, [self.path.name], reads_tars=True)
        kind = Listing(self.path).json_kind(self.path) if url.endswith(JSON_SUFFIXES) else None
        if kind not in (PLAIN, LHOTSE) and self.path.suffix.lower() != ".tar" and folder != base:
            # The other layouts look for audio beside their lists.
            beside = [name for name in list_files(self.url_of(folder)).names if name != self.path.name]
            self._take(folder, beside, reads_tars=kind is not None)

    def _take(self, folder: Path, names: Sequence[str], reads_tars: bool) -> None:
        """Fetches the lists among the files below a folder, and makes an empty file for each of the others."""
        paths = [folder / name for name in names]
        suffixes = (*LIST_SUFFIXES, *(end for layout in LAYOUTS.values() for end in layout.lists))
        lists = [path for path in paths if path.name.lower().endswith(suffixes)]
        tars = [path for path in paths if reads_tars and path.suffix.lower() == ".tar"]
        for parent in {path.parent for path in paths}:
            parent.mkdir(parents=True, exist_ok=True)
        for path in set(paths) - {*lists, *tars}:
            path.touch()
        with Progress(len(lists) + len(tars), f"lists of {folder.name}", unit="file") as progress:
            for start in range(0, len(lists), FETCHED_TOGETHER):
                together = lists[start : start + FETCHED_TOGETHER]
                storage.fetch({self.url_of(path): path for path in together})
                progress.advance(len(together))
            for path in tars:
                _copy_without_audio(self.url_of(path), path)
                progress.advance()

    def url_of(self, path: Path) -> Url:
        """The URL of a local path below ``base``."""
        return Url(self.prefix + path.relative_to(self.base).as_posix())

    def remote_text(self, text: str) -> str:
        """A message with URLs in place of local paths."""
        return text.replace(f"{self.base}/", self.prefix)

    def remote_path(self, path: Path | str) -> Path | str:
        """The URL of a path below ``base``, without ``..``, which storages do not know; other paths stay."""
        if isinstance(path, Path) and path.is_relative_to(self.base):
            path = Path(os.path.normpath(path))
            return self.url_of(path) if path.is_relative_to(self.base) else path
        return path

    def remote_row(self, row: ManifestRow) -> ManifestRow:
        """A row that names its remote audio."""
        return replace(row, path=self.remote_path(row.path))

    def remote_problem(self, problem: ManifestProblem) -> ManifestProblem:
        """A problem that names remote files."""
        return replace(
            problem,
            place=self.remote_text(problem.place),
            message=self.remote_text(problem.message),
            path=None if problem.path is None else self.remote_path(problem.path),
            row=None if problem.row is None else self.remote_row(problem.row),
        )


@contextlib.contextmanager
def mirrored(url: Url, files: FileList | None = None) -> Iterator[CorpusMirror]:
    """Context manager: a temporary local mirror of the corpus at a URL. Errors name the URL."""
    with tempfile.TemporaryDirectory(prefix="lst-corpus-") as folder:
        # Resolved, as some layouts resolve the paths that they find.
        mirror = CorpusMirror(url, Path(folder).resolve(), files)
        try:
            yield mirror
        except ProblemsError as error:
            subject, problems, remedy, max_shown = error.parts
            lines = [mirror.remote_text(problem) for problem in problems]
            raise ProblemsError(mirror.remote_text(subject), lines, mirror.remote_text(remedy), max_shown) from None
        except UserError as error:
            raise UserError(*map(mirror.remote_text, error.args)) from None


def _copy_without_audio(url: Url, path: Path) -> None:
    """Copies a tar with empty audio members; a copy of a damaged tar is damaged at the same place."""
    before: tarfile.TarInfo | None = None
    with open(path, "wb") as copy:
        try:
            with open_location(url) as file, open_tar(url, file) as source:
                target = tarfile.open(fileobj=copy, mode="w:")  # noqa: SIM115 (closing it would write an end mark)
                for member in members(source, file):
                    # The member before is whole, now that this one has been reached.
                    _add(target, source, before)
                    before = member
                _add(target, source, before)
                file.seek(-END_BYTES, 2)
                if not file.read().strip(b"\0"):
                    target.close()
        except TAR_ERRORS:
            # The copy must be broken too: a header without its content, or no tar at all.
            copy.write(before.tobuf() if before else b"x" * 512)


def _add(target: tarfile.TarFile, source: tarfile.TarFile, member: tarfile.TarInfo | None) -> None:
    if member is None:
        return
    if member.issparse():
        raise tarfile.HeaderError(f"member {member.name[:100]!r} is a sparse file")
    if not member.isreg() or member.name.lower().endswith(AUDIO_SUFFIXES):
        member = member.replace(deep=False)
        member.size = 0
        target.addfile(member)
    else:
        target.addfile(member, source.extractfile(member))
