"""Compare two contracts: what changed, and whom it breaks.

Rules of the room:
  * pure: two documents in, changes out, in the order of the methods;
  * the verdicts are in `rules`, the comparison of types is in `flow`.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastrpc.call.document import parameter_schema
from fastrpc.call.flow import Finding, Found, Walk
from fastrpc.call.method import method_key
from fastrpc.call.rules import RULES, Change, ChangeKind, Rule
from fastrpc.errors import ConfigError

__all__ = ["RULES", "Change", "ChangeKind", "Rule", "compare"]

_K = ChangeKind
_F = Finding

# What a finding is called where values flow from old callers, and where to them.
_NAMES: Final[dict[Finding, tuple[ChangeKind, ChangeKind]]] = {
    _F.TYPE_UNREADABLE: (_K.ARGUMENT_TYPE_NARROWED, _K.RESULT_TYPE_WIDENED),
    _F.TYPE_ROOMIER: (_K.ARGUMENT_TYPE_WIDENED, _K.RESULT_TYPE_NARROWED),
    _F.CHOICE_UNREADABLE: (_K.ARGUMENT_CHOICE_REMOVED, _K.RESULT_CHOICE_ADDED),
    _F.CHOICE_ROOMIER: (_K.ARGUMENT_CHOICE_ADDED, _K.RESULT_CHOICE_REMOVED),
    _F.LIMIT_UNREADABLE: (_K.ARGUMENT_LIMIT_TIGHTENED, _K.RESULT_LIMIT_LOOSENED),
    _F.LIMIT_ROOMIER: (_K.ARGUMENT_LIMIT_LOOSENED, _K.RESULT_LIMIT_TIGHTENED),
    _F.LENGTH_UNREADABLE: (_K.ARGUMENT_LENGTH_NARROWED, _K.RESULT_LENGTH_WIDENED),
    _F.LENGTH_ROOMIER: (_K.ARGUMENT_LENGTH_WIDENED, _K.RESULT_LENGTH_NARROWED),
    _F.FIELD_REFUSED: (_K.ARGUMENT_FIELD_REFUSED, _K.RESULT_FIELD_ADDED_CLOSED),
    _F.FIELD_IGNORED: (_K.ARGUMENT_FIELD_REMOVED, _K.RESULT_FIELD_ADDED),
    _F.FIELD_NEEDED: (_K.ARGUMENT_FIELD_ADDED_REQUIRED, _K.RESULT_FIELD_REMOVED_REQUIRED),
    _F.FIELD_FILLED: (_K.ARGUMENT_FIELD_ADDED, _K.RESULT_FIELD_REMOVED),
    _F.FIELD_MAY_LACK: (_K.ARGUMENT_FIELD_MADE_REQUIRED, _K.RESULT_FIELD_MADE_OMITTED),
    # A caller is free to leave out what has a default, so the first never comes about.
    _F.FIELD_HAS_DEFAULT: (_K.ARGUMENT_FIELD_MADE_REQUIRED, _K.RESULT_FIELD_GIVEN_DEFAULT),
    _F.FIELD_ALWAYS_THERE: (_K.ARGUMENT_FIELD_MADE_OPTIONAL, _K.RESULT_FIELD_MADE_REQUIRED),
    _F.STREAM_CHANGED: (_K.STREAM_CHANGED, _K.STREAM_CHANGED),
}

Method = Mapping[str, Any]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return what changed from one contract to the other.

    Args:
        old: What callers rely on, as `read_document` or `write_document` gives it.
        new: What is served from now on.

    Raises:
        ConfigError: They are too large to compare, or nested too deeply.
    """
    try:
        return _compare(old, new)
    except RecursionError:
        raise ConfigError("the contracts are nested too deeply to compare") from None


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    before, after = _methods(old), _methods(new)
    changes = []
    for key, method in before.items():
        if key in after:
            changes += _Pair(key, method, after[key], old["$defs"], new["$defs"]).changes()
        else:
            changes.append(Change(kind=_K.METHOD_REMOVED, method=key, where="", text="removed"))
    for key in after:
        if key not in before:
            changes.append(Change(kind=_K.METHOD_ADDED, method=key, where="", text="added"))
    return changes


def _methods(document: Mapping[str, Any]) -> dict[str, Method]:
    return {
        method_key(method["name"], service["version"], service["group"]): method
        for service in document["services"]
        for method in service["methods"]
    }


class _Pair:
    """One method before and after."""

    def __init__(
        self,
        key: str,
        old: Method,
        new: Method,
        old_defs: Mapping[str, Any],
        new_defs: Mapping[str, Any],
    ) -> None:
        self._key = key
        self._old, self._new = old, new
        self._old_defs, self._new_defs = old_defs, new_defs
        self._found: list[Change] = []

    def changes(self) -> list[Change]:
        """Return all that changed."""
        self._parameters()
        self._result()
        self._traits()
        return self._found

    def _add(self, kind: ChangeKind, where: str, text: str) -> None:
        self._found.append(Change(kind=kind, method=self._key, where=where, text=text))

    # Traits

    def _traits(self) -> None:
        was, is_now = bool(self._old.get("idempotent")), bool(self._new.get("idempotent"))
        if was != is_now:
            kind = _K.IDEMPOTENT_GAINED if is_now else _K.IDEMPOTENT_LOST
            self._add(kind, "", "is idempotent now" if is_now else "is no longer idempotent")
        for name, kind in (("cancel", _K.CANCEL_CHANGED), ("cost", _K.COST_CHANGED)):
            # Contracts from before there were such traits don't tell.
            if name in self._old and name in self._new and self._old[name] != self._new[name]:
                self._add(kind, name, f"was {self._old[name]!r}, is {self._new[name]!r}")

    # Types

    def _result(self) -> None:
        walk = Walk(self._new_defs, self._old_defs, free=False)
        found = self._flow(walk, self._new["result"], self._old["result"])
        for item in found:
            where = f"result, {item.where}" if item.where else "result"
            self._add(_NAMES[item.finding][1], where, _words(item.reader, item.writer))

    def _argument(self, where: str, old: Any, new: Any) -> None:
        walk = Walk(self._old_defs, self._new_defs, free=True)
        for item in self._flow(walk, old, new):
            place = f"{where}, {item.where}" if item.where else where
            self._add(_NAMES[item.finding][0], place, _words(item.writer, item.reader))

    @staticmethod
    def _flow(walk: Walk, writer: Any, reader: Any) -> list[Found]:
        streams = [bool(schema.get("x-stream")) for schema in (writer, reader)]
        if streams[0] != streams[1]:
            words = ["a stream" if stream else "a single value" for stream in streams]
            return [Found(_F.STREAM_CHANGED, "", *words)]
        return walk.compare(writer, reader)

    # Parameters

    def _parameters(self) -> None:
        old = {item["name"]: item for item in self._old["parameters"]}
        new = {item["name"]: item for item in self._new["parameters"]}
        renamed = self._renamed(old, new)
        for name, item in old.items():
            other = new.get(renamed.get(name, name))
            if other is None:
                self._add(_K.PARAMETER_REMOVED, _where(item), "removed")
            else:
                self._parameter(item, other)
        known = set(old) | set(renamed.values())
        for name, item in new.items():
            if name not in known:
                kind = _K.PARAMETER_ADDED_REQUIRED if item["required"] else _K.PARAMETER_ADDED
                self._add(kind, _where(item), "added")
        self._order(old, new, renamed)

    def _renamed(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
        """Pair parameters that have another name now at the same place."""
        found: dict[str, str] = {}
        for kinds in (_PLACED, ("rest",), ("keywords",), ("items",)):
            before = [name for name, item in old.items() if item["kind"] in kinds]
            after = [name for name, item in new.items() if item["kind"] in kinds]
            pairs = zip(before, after, strict=False)
            found |= {n: other for n, other in pairs if n not in new and other not in old}
        return found

    def _parameter(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        where = _where(old)
        if old["name"] != new["name"]:
            kind = _K.PARAMETER_RENAMED
            if old["kind"] in ("positional_only", "rest", "keywords"):
                kind = _K.PARAMETER_RENAMED_UNSEEN
            self._add(kind, where, f"is called {new['name']!r} now")
        for ways, kinds in (
            (_BY_POSITION, (_K.PARAMETER_POSITION_GAINED, _K.PARAMETER_POSITION_LOST)),
            (_BY_NAME, (_K.PARAMETER_NAME_GAINED, _K.PARAMETER_NAME_LOST)),
        ):
            could, can = old["kind"] in ways, new["kind"] in ways
            if could != can and "items" not in (old["kind"], new["kind"]):
                self._add(kinds[could], where, f"was {_told(old)}, is {_told(new)}")
        if old["required"] != new["required"]:
            kind = _K.PARAMETER_MADE_REQUIRED if new["required"] else _K.PARAMETER_MADE_OPTIONAL
            self._add(kind, where, "is required now" if new["required"] else "has a default now")
        elif old.get("default") != new.get("default"):
            text = f"was {old.get('default')!r}, is {new.get('default')!r}"
            self._add(_K.PARAMETER_DEFAULT_CHANGED, where, text)
        schemas = parameter_schema(self._old, old), parameter_schema(self._new, new)
        self._argument(where, *schemas)

    def _order(self, old: dict[str, Any], new: dict[str, Any], renamed: dict[str, str]) -> None:
        """Find parameters that callers by position would miss."""
        before = [renamed.get(n, n) for n, item in old.items() if item["kind"] in _PLACED]
        after = [name for name, item in new.items() if item["kind"] in _PLACED]
        for place, name in enumerate(before):
            if name in after and after.index(name) != place:
                text = f"was argument {place + 1}, is {after.index(name) + 1}"
                self._add(_K.PARAMETER_MOVED, _where(new[name]), text)
        # What went to *args before goes to a new parameter now.
        if any(item["kind"] == "rest" for item in old.values()):
            for name in after[len(before) :]:
                if name not in old:
                    text = f"takes argument {after.index(name) + 1}, which went to *args"
                    self._add(_K.PARAMETER_MOVED, _where(new[name]), text)


_PLACED: Final = ("positional", "positional_only")
_BY_POSITION: Final = ("positional", "positional_only", "rest")
_BY_NAME: Final = ("positional", "keyword_only", "keywords")


def _where(parameter: Mapping[str, Any]) -> str:
    stars = {"rest": "*", "keywords": "**"}.get(parameter["kind"], "")
    return f"parameter '{stars}{parameter['name']}'"


def _told(parameter: Mapping[str, Any]) -> str:
    return str(parameter["kind"]).replace("_", "-")


def _words(was: str, is_now: str) -> str:
    if not was:
        return f"{is_now} added"
    return f"was {was}, is {is_now}" if is_now else f"{was} removed"
