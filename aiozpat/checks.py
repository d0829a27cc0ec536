"""Values that users give, checked where they are given: found out later, they would harm a whole session."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from aiozpat.errors import UsageError

T = TypeVar("T")

LONGEST = 86_400 * 3650.0  # seconds; event loops take no infinite ones
_ENDLESS = 1e9  # seconds; no integer on the wire is too small for less
_MOST = 2**53 - 1  # what a number of any language holds; some of them travel


def whole_number(what: str, value: Any, least: int = 1, most: int = _MOST) -> int:
    """A whole number within its range.

    Raises:
        TypeError: It is no number.
        ValueError: It is no whole one, or out of range.
    """
    text = f"{what} is a whole number from {least} to {most}; got {value!r}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(text)
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(text)
    return value


def number(what: str, value: Any, *, zero: bool = False) -> None:
    """See to it that a value is a number above 0, or with `zero` 0 itself.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    text = f"{what} is a number {'from 0 up' if zero else 'above 0'}; got {value!r}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):  # a Decimal, say, adds to no float
        raise TypeError(text)
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(text)


def linger_seconds(value: Any) -> float:
    """How long an endpoint may go on sending when it is closed.

    Raises:
        TypeError: It is no number.
        ValueError: It is below 0, or not finite.
    """
    text = f"linger is a finite number of seconds, 0 or more; got {value!r}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return float(min(value, LONGEST))


def flag(what: str, value: Any) -> bool:
    """Yes or no: a text that says no would be true.

    Raises:
        TypeError: It is neither True nor False.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} is True or False; got {value!r}")
    return value


def seconds(what: str, value: Any) -> float:
    """A time; endless where it is as good as that.

    Raises:
        TypeError: It is no number.
        ValueError: It is not-a-number.
    """
    text = f"{what} is a number of seconds; got {value!r}"
    try:
        good = not math.isnan(value)
    except TypeError:
        raise TypeError(text) from None
    if not good:
        raise ValueError(text)
    return float(value) if value < _ENDLESS else math.inf


def named(params: Any) -> dict[str, Any]:
    """Params by name.

    Raises:
        TypeError: They have no names.
    """
    try:
        return dict(params)
    except (TypeError, ValueError):
        text = f"params go by name, as in params={{'a': 1}}, or by position, as args; got {params!r}"
        raise TypeError(text) from None


def params_of(args: tuple[Any, ...], params: Any) -> Any:
    """A call's params: by position in a tuple, or in a dict by name where they were given so.

    Raises:
        UsageError: Both were given.
        TypeError: Those by name have no names.
    """
    if params is None:
        return args
    if args:
        raise UsageError("params go by position or by name, not both: call(method, 1, 2) or call(method, params={...})")
    return named(params)


def given(value: Any, kind: type[T], text: str) -> T | None:
    """What was given for an option, or None.

    Args:
        value: The option's value.
        kind: Its class.
        text: What the option is, for the error.

    Raises:
        TypeError: It is something else.
    """
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{text}; got {value!r}")
    return value
