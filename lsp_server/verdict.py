"""Why there is a suggestion or none: the last decision at a document, for whoever asks `midfill/why`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """What decided, in the order in which it may."""

    NOT_OPEN = "not_open"
    NOT_ASKED = "not_asked"
    PRIVATE = "private"
    DISABLED = "disabled"
    LANGUAGE_OFF = "language_off"
    FILE_OFF = "file_off"
    LOADING = "loading"
    ENGINE_DOWN = "engine_down"
    SUPERSEDED = "superseded"  # in the log only: the request that took its place has a verdict of its own
    MID_WORD = "mid_word"
    BEFORE_CODE = "before_code"
    IN_STRING = "in_string"
    IN_COMMENT = "in_comment"
    FINISHED = "finished"
    ENGINE_FAILED = "engine_failed"
    DEADLINE = "deadline"
    NOTHING_WRITTEN = "nothing_written"
    LOW_CONFIDENCE = "low_confidence"
    FILTERED = "filtered"
    JUST_DELETED = "just_deleted"
    DISMISSED = "dismissed"
    SHOWN = "shown"


_ABOUT = {
    Reason.NOT_OPEN: "the document is not open here",
    Reason.NOT_ASKED: "nothing was asked for in this document yet",
    Reason.PRIVATE: "the file may hold secrets and is never read",
    Reason.DISABLED: "suggestions are switched off",
    Reason.LANGUAGE_OFF: "suggestions are switched off in this language",
    Reason.FILE_OFF: "suggestions are switched off in files like this",
    Reason.LOADING: "the model is still loading",
    Reason.ENGINE_DOWN: "the engine is down",
    Reason.SUPERSEDED: "a newer request or edit took the place of this one",
    Reason.MID_WORD: "the cursor is inside of a word",
    Reason.BEFORE_CODE: "code follows on the cursor's line; ask by hand to get a suggestion here",
    Reason.IN_STRING: "strings are completed on demand or not at all",
    Reason.IN_COMMENT: "comments are completed on demand or not at all",
    Reason.FINISHED: "the string or comment around the cursor is finished",
    Reason.ENGINE_FAILED: "the engine failed; its log says why",
    Reason.DEADLINE: "nothing was written by the deadline",
    Reason.NOTHING_WRITTEN: "the model had nothing to say",
    Reason.LOW_CONFIDENCE: "the model was not sure enough",
    Reason.FILTERED: "nothing was left of what the model wrote",
    Reason.JUST_DELETED: "this is what was just deleted",
    Reason.DISMISSED: "this was dismissed here",
    Reason.SHOWN: "a suggestion was shown",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What decided, and what a person may want to know of it; never any text of the document."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)

    @property
    def about(self) -> str:
        """Says it in a sentence."""
        return _ABOUT[self.reason] + (f" ({self.detail})" if self.detail else "")


SHOWN = Verdict(Reason.SHOWN)
