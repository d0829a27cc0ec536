"""What an annotation comes down to, however it is written."""

from __future__ import annotations

import typing
from typing import Annotated, Any, NewType, get_args, get_origin

_Alias: Any = getattr(typing, "TypeAliasType", ())  # from Python 3.12 on


def bare(wanted: Any) -> Any:
    """A type without what only names it, or says more of it: `type` aliases, `NewType`, `Annotated`.

    Raises:
        NameError, TypeError, RecursionError: An alias of it leads nowhere.
    """
    origin = get_origin(wanted)
    if origin is Annotated:
        return bare(wanted.__origin__)
    if isinstance(wanted, NewType):
        return bare(wanted.__supertype__)
    if isinstance(wanted, _Alias):
        return bare(wanted.__value__)
    return bare(origin.__value__[get_args(wanted)]) if isinstance(origin, _Alias) else wanted
