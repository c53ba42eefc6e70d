"""Errors that a user can cause and mend: what was given, what is allowed, what to change.

Messages quote names and texts of files that may come from anywhere. A terminal would obey escape sequences in them,
show text in another order, or take a line break for the end of a message. So ``one_line`` writes each line of an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

# Control characters except the tab; invisible ones, as those that turn the direction of text; halves of pairs.
_HIDDEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def one_line(text: str) -> str:
    """A text as one line that a terminal shows as it is: other characters stand there as Python writes them.

    >>> print(one_line("evil\\x1b[2J name\\nlst: all is well"))
    evil\\x1b[2J name\\nlst: all is well
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable(text: str) -> str:
    """A text of several lines, each as ``one_line`` writes it."""
    return "\n".join(map(one_line, text.split("\n")))


class LstError(Exception):
    """What the command line prints without a traceback: the base of the two kinds below.

    Args:
        lines: of the message; line breaks within one are quoted.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    def __str__(self) -> str:
        return "\n".join(map(one_line, self.args))


class UserError(LstError, ValueError):
    """A mistake in the input, the configuration or the environment."""


class StorageError(LstError):
    """A storage that cannot be reached or written. No file in it is at fault, so nothing is made again or skipped."""


class DiskFullError(UserError, StorageError):
    """A full disk: what is to be written there is not at fault, and the user can mend it."""


class StoppedError(LstError):
    """Work that a signal has stopped, after it was saved.

    Args:
        message: what was saved, and how to go on.
        signal_number: of the signal.

    Attributes:
        signal_number: as given; the exit status is 128 and this number.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class ProblemsError(UserError):
    """Every problem found in one thing, reported together before work starts.

    Args:
        subject: what was checked, for example ``"manifest corpus/manifest.tsv"``.
        problems: one line a problem.
        remedy: what to do about them, as a sentence.
        max_shown: how many problems the message lists; all of them stay in ``problems``.

    Attributes:
        problems: all of them.
        parts: the arguments.
    """

    def __init__(self, subject: str, problems: Sequence[str], remedy: str = "", max_shown: int = 30) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        lines = [f"{subject}: {count} problem{'s' if count != 1 else ''}"]
        lines += [f"  - {problem}" for problem in self.problems[:max_shown]]
        if count > max_shown:
            lines.append(f"  … and {count - max_shown} more of them")
        if remedy:
            lines.append(remedy)
        super().__init__(*lines)
        self.parts = (subject, list(problems), remedy, max_shown)

    def __reduce__(self) -> tuple[type[ProblemsError], tuple[str, list[str], str, int]]:
        # An exception is otherwise made again from its message alone, which fails in the process that waits for it.
        return type(self), self.parts


def raise_problems(subject: str, problems: Sequence[str], remedy: str = "") -> None:
    """Raises one ``ProblemsError`` naming all ``problems``; does nothing when there are none."""
    if problems:
        raise ProblemsError(subject, problems, remedy)


def nearest(word: str, allowed: Sequence[str]) -> str:
    """`` (did you mean X?)`` with the likeliest of the allowed words; empty where none is like it."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    # The last part of a dotted key (learning_rate) stands for the whole.
    close = close or [key for key in allowed if key.rpartition(".")[2] == word][:1]
    return f" (did you mean {close[0]}?)" if close else ""
