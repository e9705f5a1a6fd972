"""Mistakes that the person at the keyboard can put right.

Each message is one clear sentence or two: which file, what was expected, what to do. Commands print it and leave with exit code 2;
anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Bad input: shown as one line, without a traceback."""


class DatasetError(UserError):
    """A data set or one of its files is not what its format says."""


class CheckpointError(UserError):
    """A network file is damaged, of another kind, or does not fit."""


class ConfigError(UserError):
    """A preset or a combination of options that does not exist or cannot work."""


class WriteError(UserError):
    """A file could not be written: the disk is full, a quota is used up, or the folder has become read-only."""


class LostProcessError(Exception):
    """A process of a run on several is gone: nobody's mistake at the keyboard, and one sentence all the same."""
