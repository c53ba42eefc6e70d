"""Corpora behind a URL: read from a local likeness of them, in which audio is empty and all else is as it is there.

Lists and transcripts are fetched; of a tar, the members that are not audio; an empty file stands for every other. What
is found is given the URL's names again, so rows name their audio where it lies, and no audio is copied.
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
from lst.data.audio.places import open_tar
from lst.data.corpora.layouts.listing import JSON_LINES_SUFFIXES, LHOTSE, PLAIN, Listing
from lst.data.corpora.layouts.tar_samples import END_BYTES
from lst.data.corpora.manifest import ManifestProblem, ManifestRow
from lst.errors import ProblemsError, UserError
from lst.progress import Progress
from lst.storage import FileList, Url, list_files

LIST_SUFFIXES = (".txt", ".tsv", ".csv", *JSON_LINES_SUFFIXES)
FETCHED_TOGETHER = 512


class Likeness:
    """A corpus on this disk that looks like one behind a URL.

    Args:
        url: of a folder or of a file.
        base: an empty folder of this disk, which stands for the storage's root.
        files: the corpus's files, if they have been listed already.

    Attributes:
        path: what stands for ``url`` here; its folders are named as there.

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
        kind = Listing(self.path).json_kind(self.path) if url.endswith(JSON_LINES_SUFFIXES) else None
        if kind not in (PLAIN, LHOTSE) and self.path.suffix.lower() != ".tar" and folder != base:
            # These look for what lies beside their lists.
            beside = [name for name in list_files(self.url_of(folder)).names if name != self.path.name]
            self._take(folder, beside, reads_tars=kind is not None)

    def _take(self, folder: Path, names: Sequence[str], reads_tars: bool) -> None:
        """Fetches the lists among the files below a folder, and lets empty files stand for the others."""
        lists = [folder / name for name in names if name.lower().endswith(LIST_SUFFIXES)]
        tars = [folder / name for name in names if reads_tars and name.lower().endswith(".tar")]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for path in {folder / name for name in names} - {*lists, *tars}:
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
        """The URL that a path below ``base`` stands for."""
        return Url(self.prefix + path.relative_to(self.base).as_posix())

    def named(self, text: str) -> str:
        """A message with the URL's names in place of those of this disk."""
        return text.replace(f"{self.base}/", self.prefix)

    def there(self, path: Path | str) -> Path | str:
        """A path's URL, without ``..``, which storages do not know; a path that lies elsewhere stays."""
        if isinstance(path, Path) and path.is_relative_to(self.base):
            path = Path(os.path.normpath(path))
            return self.url_of(path) if path.is_relative_to(self.base) else path
        return path

    def row(self, row: ManifestRow) -> ManifestRow:
        return replace(row, path=self.there(row.path))

    def problem(self, problem: ManifestProblem) -> ManifestProblem:
        return replace(
            problem,
            place=self.named(problem.place),
            message=self.named(problem.message),
            path=None if problem.path is None else self.there(problem.path),
            row=None if problem.row is None else self.row(problem.row),
        )


@contextlib.contextmanager
def likeness_of(url: Url, files: FileList | None = None) -> Iterator[Likeness]:
    """Context manager: a temporary local copy of the corpus at a URL, without its audio. Errors name the URL."""
    with tempfile.TemporaryDirectory(prefix="lst-corpus-") as folder:
        # Resolved, as some layouts resolve what they find.
        found = Likeness(url, Path(folder).resolve(), files)
        try:
            yield found
        except ProblemsError as error:
            subject, problems, remedy, max_shown = error.parts
            raise ProblemsError(
                found.named(subject), [found.named(problem) for problem in problems], found.named(remedy), max_shown
            ) from None
        except UserError as error:
            raise UserError(found.named(str(error))) from None


def _copy_without_audio(url: Url, path: Path) -> None:
    """A tar with the members of another, those of audio empty; where that one is damaged, this one is cut too."""
    before: tarfile.TarInfo | None = None
    with open(path, "wb") as copy:
        try:
            with open_location(url) as file, open_tar(url, file) as source:
                target = tarfile.open(fileobj=copy, mode="w:")  # noqa: SIM115 (its end would write an end mark)
                for member in source:
                    # It is whole, now that the next one has been reached.
                    _add(target, source, before)
                    before = member
                _add(target, source, before)
                file.seek(-END_BYTES, 2)
                if not file.read().strip(b"\0"):
                    target.close()
        except (tarfile.TarError, OSError, EOFError, ValueError):
            # What is not whole is not whole here either: a header without its content, or no tar.
            copy.write(before.tobuf() if before else b"x" * 512)


def _add(target: tarfile.TarFile, source: tarfile.TarFile, member: tarfile.TarInfo | None) -> None:
    if member is None:
        return
    if member.name.lower().endswith(AUDIO_SUFFIXES):
        member = member.replace(deep=False)
        member.size = 0
        target.addfile(member)
    else:
        target.addfile(member, source.extractfile(member))
