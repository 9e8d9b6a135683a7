"""Say which changes of a contract break callers, and why.

A change is judged by one question: can a caller that was written and run before it,
and does nothing new, go wrong after it? Arguments flow from old callers to the new
service, so it may take more than before; results flow the other way, so it may give
less. The rules on fields are those of the codecs: unknown ones are ignored, missing
ones take their default.

Rules of the room:
  * one kind of change, one verdict, one sentence: the table is the only place;
  * what is in doubt counts as breaking.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class ChangeKind(Enum):
    """What can happen to a contract. Values are for programs, and stay."""

    METHOD_ADDED = "method-added"
    METHOD_REMOVED = "method-removed"
    IDEMPOTENT_GAINED = "idempotent-gained"
    IDEMPOTENT_LOST = "idempotent-lost"
    CANCEL_CHANGED = "cancel-changed"
    COST_CHANGED = "cost-changed"

    PARAMETER_ADDED = "parameter-added"
    PARAMETER_ADDED_REQUIRED = "parameter-added-required"
    PARAMETER_REMOVED = "parameter-removed"
    PARAMETER_RENAMED = "parameter-renamed"
    PARAMETER_RENAMED_UNSEEN = "parameter-renamed-unseen"
    PARAMETER_MOVED = "parameter-moved"
    PARAMETER_MADE_REQUIRED = "parameter-made-required"
    PARAMETER_MADE_OPTIONAL = "parameter-made-optional"
    PARAMETER_DEFAULT_CHANGED = "parameter-default-changed"
    PARAMETER_POSITION_GAINED = "parameter-position-gained"
    PARAMETER_POSITION_LOST = "parameter-position-lost"
    PARAMETER_NAME_GAINED = "parameter-name-gained"
    PARAMETER_NAME_LOST = "parameter-name-lost"

    ARGUMENT_TYPE_WIDENED = "argument-type-widened"
    ARGUMENT_TYPE_NARROWED = "argument-type-narrowed"
    ARGUMENT_CHOICE_ADDED = "argument-choice-added"
    ARGUMENT_CHOICE_REMOVED = "argument-choice-removed"
    ARGUMENT_LIMIT_LOOSENED = "argument-limit-loosened"
    ARGUMENT_LIMIT_TIGHTENED = "argument-limit-tightened"
    ARGUMENT_LENGTH_WIDENED = "argument-length-widened"
    ARGUMENT_LENGTH_NARROWED = "argument-length-narrowed"
    ARGUMENT_FIELD_ADDED = "argument-field-added"
    ARGUMENT_FIELD_ADDED_REQUIRED = "argument-field-added-required"
    ARGUMENT_FIELD_REMOVED = "argument-field-removed"
    ARGUMENT_FIELD_REFUSED = "argument-field-refused"
    ARGUMENT_FIELD_MADE_REQUIRED = "argument-field-made-required"
    ARGUMENT_FIELD_MADE_OPTIONAL = "argument-field-made-optional"

    RESULT_TYPE_WIDENED = "result-type-widened"
    RESULT_TYPE_NARROWED = "result-type-narrowed"
    RESULT_CHOICE_ADDED = "result-choice-added"
    RESULT_CHOICE_REMOVED = "result-choice-removed"
    RESULT_LIMIT_LOOSENED = "result-limit-loosened"
    RESULT_LIMIT_TIGHTENED = "result-limit-tightened"
    RESULT_LENGTH_WIDENED = "result-length-widened"
    RESULT_LENGTH_NARROWED = "result-length-narrowed"
    RESULT_FIELD_ADDED = "result-field-added"
    RESULT_FIELD_ADDED_CLOSED = "result-field-added-closed"
    RESULT_FIELD_REMOVED = "result-field-removed"
    RESULT_FIELD_REMOVED_REQUIRED = "result-field-removed-required"
    RESULT_FIELD_MADE_OMITTED = "result-field-made-omitted"
    RESULT_FIELD_GIVEN_DEFAULT = "result-field-given-default"
    RESULT_FIELD_MADE_REQUIRED = "result-field-made-required"

    STREAM_CHANGED = "stream-changed"


@dataclass(frozen=True, slots=True)
class Rule:
    """The verdict on a kind of change.

    Attributes:
        breaking: A caller from before can go wrong.
        why: One sentence.
    """

    breaking: bool
    why: str


def _breaks(why: str) -> Rule:
    return Rule(True, why)


def _harmless(why: str) -> Rule:
    return Rule(False, why)


_K = ChangeKind

RULES: Final[dict[ChangeKind, Rule]] = {
    _K.METHOD_ADDED: _harmless("Nobody calls it yet."),
    _K.METHOD_REMOVED: _breaks("Its callers get MethodNotFound."),
    _K.IDEMPOTENT_GAINED: _harmless("Callers may now repeat it, none has to."),
    _K.IDEMPOTENT_LOST: _breaks("Callers that were told so repeat it when in doubt."),
    _K.CANCEL_CHANGED: _harmless("A caller that gives up sees the same in both cases."),
    _K.COST_CHANGED: _harmless("What a call costs is no part of its meaning."),
    _K.PARAMETER_ADDED: _harmless("Who doesn't send it gets the default."),
    _K.PARAMETER_ADDED_REQUIRED: _breaks("Old callers don't send it."),
    _K.PARAMETER_REMOVED: _breaks("An argument that nobody expects is refused."),
    _K.PARAMETER_RENAMED: _breaks("Who sends it by its old name is refused."),
    _K.PARAMETER_RENAMED_UNSEEN: _harmless("It goes by position only, nobody says its name."),
    _K.PARAMETER_MOVED: _breaks("Arguments sent by position land at another parameter."),
    _K.PARAMETER_MADE_REQUIRED: _breaks("Callers were free to leave it out."),
    _K.PARAMETER_MADE_OPTIONAL: _harmless("Who sends it still may."),
    _K.PARAMETER_DEFAULT_CHANGED: _harmless("The bytes are the same, the meaning may not be."),
    _K.PARAMETER_POSITION_GAINED: _harmless("It may still be sent by name."),
    _K.PARAMETER_POSITION_LOST: _breaks("Who sends it by position is refused."),
    _K.PARAMETER_NAME_GAINED: _harmless("It may still be sent by position."),
    _K.PARAMETER_NAME_LOST: _breaks("Who sends it by name is refused."),
    _K.ARGUMENT_TYPE_WIDENED: _harmless("All that was sent before is still taken."),
    _K.ARGUMENT_TYPE_NARROWED: _breaks("Something that was sent before is no longer taken."),
    _K.ARGUMENT_CHOICE_ADDED: _harmless("Nobody sends it yet."),
    _K.ARGUMENT_CHOICE_REMOVED: _breaks("Who sends it is refused."),
    _K.ARGUMENT_LIMIT_LOOSENED: _harmless("All that was within it still is."),
    _K.ARGUMENT_LIMIT_TIGHTENED: _breaks("Something that was within it no longer is."),
    _K.ARGUMENT_LENGTH_WIDENED: _harmless("All lengths from before are still taken."),
    _K.ARGUMENT_LENGTH_NARROWED: _breaks("A length from before is no longer taken."),
    _K.ARGUMENT_FIELD_ADDED: _harmless("Where it is missing it takes its default."),
    _K.ARGUMENT_FIELD_ADDED_REQUIRED: _breaks("Old callers don't send it."),
    _K.ARGUMENT_FIELD_REMOVED: _harmless("Fields that nobody knows are ignored."),
    _K.ARGUMENT_FIELD_REFUSED: _breaks("This type refuses fields that it doesn't know."),
    _K.ARGUMENT_FIELD_MADE_REQUIRED: _breaks("Callers were free to leave it out."),
    _K.ARGUMENT_FIELD_MADE_OPTIONAL: _harmless("Who sends it still may."),
    _K.RESULT_TYPE_WIDENED: _breaks("Old callers may get what they can't read."),
    _K.RESULT_TYPE_NARROWED: _harmless("Old callers can read all that still comes."),
    _K.RESULT_CHOICE_ADDED: _breaks("Old callers don't know it."),
    _K.RESULT_CHOICE_REMOVED: _harmless("It just never comes."),
    _K.RESULT_LIMIT_LOOSENED: _breaks("Old callers check the limit and may get what is past it."),
    _K.RESULT_LIMIT_TIGHTENED: _harmless("All that comes is within the old limit."),
    _K.RESULT_LENGTH_WIDENED: _breaks("Old callers may get a length that they refuse."),
    _K.RESULT_LENGTH_NARROWED: _harmless("All lengths that come were possible before."),
    _K.RESULT_FIELD_ADDED: _harmless("Old callers ignore fields that they don't know."),
    _K.RESULT_FIELD_ADDED_CLOSED: _breaks("Old callers' type refuses fields that it doesn't know."),
    _K.RESULT_FIELD_REMOVED: _harmless("Old callers have a default for it."),
    _K.RESULT_FIELD_REMOVED_REQUIRED: _breaks("Old callers need it."),
    _K.RESULT_FIELD_MADE_OMITTED: _breaks("Old callers need it, and it may be left out now."),
    _K.RESULT_FIELD_GIVEN_DEFAULT: _harmless("It has a default now, and is sent all the same."),
    _K.RESULT_FIELD_MADE_REQUIRED: _harmless("Old callers can read it."),
    _K.STREAM_CHANGED: _breaks("A stream and a single value are sent in different ways."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two contracts.

    Attributes:
        kind: What happened.
        method: Full name of the method, with version and group.
        where: The place in it, such as "parameter 'item', field 'price'"; may be "".
        text: What it was and what it is.
    """

    kind: ChangeKind
    method: str
    where: str
    text: str

    @property
    def breaking(self) -> bool:
        """Whether callers from before can go wrong."""
        return RULES[self.kind].breaking

    @property
    def why(self) -> str:
        """Why it is breaking, or why not."""
        return RULES[self.kind].why

    def describe(self) -> dict[str, object]:
        """Return all of it as plain values."""
        return {
            "kind": self.kind.value,
            "breaking": self.breaking,
            "method": self.method,
            "where": self.where,
            "text": self.text,
            "why": self.why,
        }
