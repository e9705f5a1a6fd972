"""The bytes of a pickle: lengths, numbers, texts and lines at a position that moves on.

Nothing is allocated before the bytes for it are known to be there. Every method raises ValueError with the reason.
"""

from __future__ import annotations

import re
import struct
from typing import Any

_MAX_INTEGER_BYTES = 255
_MAX_NUMBER_LINE = 640
_MAX_NAME_LINE = 1000
_UNLIMITED = 1 << 62
_MAX_OLD_TEXT = 1 << 16
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\", b"'": b"'", b'"': b'"'}


class PickleBytes:
    """Reads a pickle from front to back."""

    def __init__(self, data: memoryview, encoding: str) -> None:
        self.data = data
        self.encoding = encoding
        """Of the text of Python 2; "bytes" leaves it as it is."""
        self.position = 0

    def take(self, size: int) -> memoryview:
        """The next bytes, not copied."""
        left = len(self.data) - self.position
        if not 0 <= size <= left:
            raise ValueError(f"{size} bytes were announced, {left} are left: it is truncated or damaged")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, layout: str) -> Any:
        """A number in a layout of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def sized(self, layout: str) -> memoryview:
        """A length in a layout of `struct`, then that many bytes, which are returned."""
        return self.take(self.number(layout))

    def text(self, layout: str) -> str:
        """UTF-8 after its length."""
        return str(self.sized(layout), "utf-8", "surrogatepass")

    def old_text(self, data: memoryview) -> str | memoryview:
        """What Python 2 calls a string: text or bytes. Longer than 64 KiB it can only be bytes and is not copied."""
        return data if self.encoding == "bytes" or len(data) > _MAX_OLD_TEXT else str(data, self.encoding)

    def integer(self, layout: str) -> int:
        """An integer of any size after its length."""
        data = self.sized(layout)
        if len(data) > _MAX_INTEGER_BYTES:
            raise ValueError(f"an integer has {len(data)} bytes")
        return int.from_bytes(data, "little", signed=True)

    def line(self, limit: int = _UNLIMITED) -> bytes:
        """The bytes up to the next line break, which is skipped."""
        pieces: list[bytes] = []
        begin, step = self.position, 64
        while begin < len(self.data) and begin - self.position <= limit:
            piece, line_break, _ = bytes(self.data[begin : begin + step]).partition(b"\n")
            pieces.append(piece)
            begin += len(piece)
            if line_break:
                self.position = begin + 1
                return b"".join(pieces)
            step *= 2
        raise ValueError("a line has no end or is too long")

    def integer_line(self) -> int | bool:
        """Decimal digits, an L behind those of Python 2; 00 and 01 are False and True."""
        text = self.line(_MAX_NUMBER_LINE)
        if text in (b"00", b"01"):
            return text == b"01"
        if not re.fullmatch(rb"[+-]?\d{1,640}L?", text):
            raise ValueError("an integer has something else than digits, or too many")
        return int(text.rstrip(b"L"))

    def float_line(self) -> float:
        """A number as `repr` shows it."""
        text = self.line(_MAX_NUMBER_LINE)
        try:
            return float(text)
        except ValueError as problem:
            raise ValueError("a number has something else than digits") from problem

    def name_line(self) -> str:
        """A module's, class's or object's name."""
        return self.line(_MAX_NAME_LINE).decode("utf-8")

    def unicode_line(self) -> str:
        """A text of Python 3, with escapes for what does not fit into a line of Latin-1."""
        return self.line().decode("raw-unicode-escape")

    def quoted_line(self) -> str | memoryview:
        """A string as `repr` of Python 2 shows it."""
        quoted = re.fullmatch(rb"(['\"])(.*)\1", self.line(), re.DOTALL)
        if quoted is None:
            raise ValueError("a text has no quotes around it")
        plain = re.sub(rb"\\(x[0-9a-fA-F]{2}|.?)", _unescape, quoted[2], flags=re.DOTALL)
        return self.old_text(memoryview(plain))


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes.fromhex(code[1:].decode("ascii"))
    if code not in _ESCAPES:
        raise ValueError("a text has an unknown escape sequence")
    return _ESCAPES[code]
