"""Why a call failed, and what a client does then."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from quorumwatch.v1 import event_pb2
from quorumwatch.v1.error_pb2 import ErrorReason

DOMAIN: Final = "quorumwatch.dev"
"""The `domain` of every `google.rpc.ErrorInfo` that a replica sends."""

_DETAILS_KEY: Final = "grpc-status-details-bin"
_PREFIX: Final = "ERROR_REASON_"

# The longest retry delay that is honoured (seconds): API servers keep five minutes of history.
DELAY_MAX: Final = 60.0


class Reaction(enum.Enum):
    """What a client does after a failed call. See proto/quorumwatch/v1/error.proto."""

    FIX = "fix"
    """The request is invalid. Do not repeat it."""
    ELSEWHERE = "elsewhere"
    """Try another replica immediately, this one again after `Failure.retry_delay`."""
    REPEAT = "repeat"
    """Repeat the request, with the same `request_id`, at any replica."""
    READ = "read"
    """Read again, then decide."""


_ELSEWHERE: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_CURSOR_TOO_NEW,
        ErrorReason.ERROR_REASON_REPLICA_BEHIND,
        ErrorReason.ERROR_REASON_GROUP_NOT_FORMED,
        ErrorReason.ERROR_REASON_NO_QUORUM,
        ErrorReason.ERROR_REASON_REPLICA_STOPPING,
        ErrorReason.ERROR_REASON_REPLICA_FULL,
    }
)
_REPEAT: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_OUTCOME_UNKNOWN,
        ErrorReason.ERROR_REASON_SUBSCRIBER_TOO_SLOW,
    }
)
_READ: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_ETAG_MISMATCH,
        ErrorReason.ERROR_REASON_SHARD_NOT_MOVED,
    }
)
_CURSOR: Final = frozenset(
    {
        "CURSOR_INVALID",
        "CURSOR_FOREIGN",
        "CURSOR_FROM_LOST_STATE",
    }
)

# For a status without a reason that this version knows: from a proxy, from gRPC itself, or from a
# later version. The request is invalid, and every replica would reject it.
_FINAL_CODES: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.DATA_LOSS,
    }
)


def _reaction(code: grpc.StatusCode, reason: str) -> Reaction:
    known = ErrorReason.DESCRIPTOR.values_by_name.get(_PREFIX + reason) if reason else None
    if known is None:
        return Reaction.FIX if code in _FINAL_CODES else Reaction.ELSEWHERE
    if known.number in _ELSEWHERE:
        return Reaction.ELSEWHERE
    if known.number in _REPEAT:
        return Reaction.REPEAT
    return Reaction.READ if known.number in _READ else Reaction.FIX


@dataclass(frozen=True)
class Failure:
    """Why a call failed, read from its status: a call of any service, not only a subscription."""

    code: grpc.StatusCode
    message: str
    """One readable sentence."""
    reason: str
    """An `ErrorReason` without its prefix: "NO_QUORUM". Empty if no replica sent the status."""
    reaction: Reaction
    retry_delay: float = 0.0
    """Seconds."""
    violations: tuple[str, ...] = ()
    """The invalid fields, or the exceeded limits, such as "filters[0].resources: is not known"."""

    @classmethod
    def of(cls, error: grpc.RpcError) -> Failure:
        """Reads the status of a failed call, of `grpc` or of `grpc.aio`."""
        if not isinstance(error, (grpc.aio.AioRpcError, grpc.Call)):
            return cls(grpc.StatusCode.UNKNOWN, str(error), "", Reaction.ELSEWHERE)
        code = error.code() or grpc.StatusCode.UNKNOWN
        message = error.details() or code.name
        reason, delay, violations = "", 0.0, list[str]()
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS_KEY and isinstance(value, bytes):
                reason, delay = _read_details(value, violations)
        return cls(code, message, reason, _reaction(code, reason), delay, tuple(violations))

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name})"


def _read_details(status: bytes, violations: list[str]) -> tuple[str, float]:
    reason, delay = "", 0.0
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad_request = error_details_pb2.BadRequest()
    quota = error_details_pb2.QuotaFailure()
    for detail in status_pb2.Status.FromString(status).details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = info.reason
        elif detail.Unpack(retry):
            delay = min(retry.retry_delay.ToTimedelta().total_seconds(), DELAY_MAX)
        elif detail.Unpack(bad_request):
            violations += [f"{v.field}: {v.description}" for v in bad_request.field_violations]
        elif detail.Unpack(quota):
            violations += [f"{v.subject}: {v.description}" for v in quota.violations]
    return reason, delay


class QuorumwatchError(Exception):
    """An error that neither another replica nor a retry resolves."""


class RefusedError(QuorumwatchError):
    """Every replica would reject the request: `failure` has the reason and what would be valid."""

    def __init__(self, endpoint: str, failure: Failure) -> None:
        # The message of a replica may contain some already.
        unnamed = [text for text in failure.violations if text not in failure.message]
        details = "".join(f"; {text}" for text in unnamed)
        super().__init__(f"{endpoint} refuses the request: {failure}{details}")
        self.endpoint = endpoint
        self.failure = failure


class CursorError(RefusedError):
    """The saved cursor is damaged, or belongs to another group.

    Start without it, or correct the endpoints.
    """


class ClosedError(QuorumwatchError):
    """The server has ended the subscription permanently before it was complete."""

    def __init__(self, closing: event_pb2.Closing) -> None:
        super().__init__(closing.message or event_pb2.ClosingReason.Name(closing.reason))
        self.closing = closing


def refused(endpoint: str, failure: Failure) -> RefusedError:
    """The exception for a failure that is final."""
    kind = CursorError if failure.reason in _CURSOR else RefusedError
    return kind(endpoint, failure)
