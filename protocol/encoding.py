"""Encodings: big-endian integers, length prefixes, canonical JSON (docs/protocol.md, section 1).

Every decoder refuses what does not re-encode to itself, so one value has one encoding and one hash.
"""

from __future__ import annotations

import json
import re
from typing import Any

from protocol.errors import Malformed

MAX_INTEGER = 2**53 - 1
"""Largest magnitude of a JSON integer: what RFC 8785 (and every JavaScript reader) represents exactly."""

MAX_DEPTH = 32
"""Deepest nesting of a JSON body: far above any record, far below the interpreter's recursion limit."""


def u8(x: int) -> bytes:
    return x.to_bytes(1, "big")


def u16(x: int) -> bytes:
    return x.to_bytes(2, "big")


def u32(x: int) -> bytes:
    return x.to_bytes(4, "big")


def u40(x: int) -> bytes:
    return x.to_bytes(5, "big")


def u64(x: int) -> bytes:
    return x.to_bytes(8, "big")


def lp(data: bytes) -> bytes:
    """`u32(len) || data`: what makes a concatenation of variable parts unambiguous."""
    return len(data).to_bytes(4, "big") + data


def canonical_json(value: Any) -> bytes:
    """RFC 8785 for integers, strings, booleans, null, lists and dicts with string keys.

    Raises Malformed for a float, an integer outside ±(2^53 − 1), a lone surrogate, or another type.
    """
    _check(value, "json", 0)
    # RFC 8785 sorts keys by UTF-16 code units; json.dumps sorts by code points, so the keys are ordered here.
    try:
        return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Malformed("json", "a string holds a lone surrogate") from error


def parse_json(body: bytes, field: str = "json") -> Any:
    """The value of canonical JSON; raises Malformed if `body` does not re-encode to itself."""
    if (
        _nesting(body) > MAX_DEPTH + 1
    ):  # before the parser sees it: json's own limit is the interpreter's, which may be too high for the stack
        raise Malformed(field, "nested too deeply")
    try:
        value = json.loads(body.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise Malformed(field, "not UTF-8", error.start) from error
    except json.JSONDecodeError as error:
        raise Malformed(field, f"not JSON: {error.msg}", error.pos) from error
    if canonical_json(value) != body:
        raise Malformed(field, "not canonical JSON (RFC 8785): it does not re-encode to itself")
    return value


def members(value: Any, field: str, **types: type | tuple[type, ...]) -> dict[str, Any]:
    """`value` as a dict with exactly these members of these types (bool is not an int); raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed(field, "expected an object")
    if set(value) != set(types):
        missing, extra = sorted(set(types) - set(value)), sorted(set(value) - set(types))
        raise Malformed(field, f"members differ: missing {missing}, unexpected {extra}")
    for name, kind in types.items():
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value[name], wanted) or (isinstance(value[name], bool) and bool not in wanted):
            raise Malformed(f"{field}.{name}", f"expected {' or '.join(k.__name__ for k in wanted)}")
    return value


def unhex(text: Any, length: int, field: str) -> bytes:
    """Bytes of lower-case hex of exactly `length` bytes; raises Malformed."""
    if not isinstance(text, str) or len(text) != 2 * length or any(c not in "0123456789abcdef" for c in text):
        raise Malformed(field, f"expected {length} bytes of lower-case hex")
    return bytes.fromhex(text)


class Reader:
    """A cursor over bytes that knows what it is reading; every short read is a Malformed with field and offset."""

    def __init__(self, data: bytes, field: str) -> None:
        self.data, self.field, self.offset = data, field, 0

    def take(self, length: int, name: str) -> bytes:
        piece = self.data[self.offset : self.offset + length]
        if len(piece) != length:
            raise Malformed(f"{self.field}.{name}", f"needs {length} bytes, {len(piece)} left", self.offset)
        self.offset += length
        return piece

    def integer(self, length: int, name: str) -> int:
        return int.from_bytes(self.take(length, name), "big")

    @property
    def left(self) -> int:
        return len(self.data) - self.offset

    def end(self) -> None:
        if self.left:
            raise Malformed(self.field, f"{self.left} trailing bytes", self.offset)


def _no_float(text: str) -> None:
    raise Malformed("json", f"{text[:20]} is not an integer")


def _integer(text: str) -> int:
    if len(text) > 17:
        raise Malformed("json", "an integer is outside ±(2^53 − 1)")
    return int(text)


def _nesting(body: bytes) -> int:
    """How deep brackets nest outside strings; no less than what json would descend."""
    deepest = depth = 0
    for bracket in re.findall(rb"[\[\]{}]", re.sub(rb'"(?:[^"\\]|\\.)*+"', b"", body, flags=re.DOTALL)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _check(value: Any, field: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Malformed(field, "nested too deeply")
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise Malformed(field, "an integer is outside ±(2^53 − 1)")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, field, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Malformed(field, "a key is not a string")
            _check(item, field, depth + 1)
    else:
        raise Malformed(field, f"{type(value).__name__} has no canonical form")


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value
