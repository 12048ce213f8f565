from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_REQUEST: _ClassVar[ErrorReason]
    ERROR_REASON_CURSOR_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_CURSOR_FOREIGN: _ClassVar[ErrorReason]
    ERROR_REASON_CURSOR_FROM_LOST_STATE: _ClassVar[ErrorReason]
    ERROR_REASON_CURSOR_TOO_NEW: _ClassVar[ErrorReason]
    ERROR_REASON_REPLICA_BEHIND: _ClassVar[ErrorReason]
    ERROR_REASON_GROUP_NOT_FORMED: _ClassVar[ErrorReason]
    ERROR_REASON_NO_QUORUM: _ClassVar[ErrorReason]
    ERROR_REASON_REPLICA_STOPPING: _ClassVar[ErrorReason]
    ERROR_REASON_OUTCOME_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_CLUSTER_EXISTS: _ClassVar[ErrorReason]
    ERROR_REASON_CLUSTER_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_SHARD_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_MEMBER_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_ETAG_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_LIMIT_REACHED: _ClassVar[ErrorReason]
    ERROR_REASON_MEMBER_IN_USE: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_LARGE: _ClassVar[ErrorReason]
    ERROR_REASON_REQUEST_ID_REUSED: _ClassVar[ErrorReason]
    ERROR_REASON_SUBSCRIBER_TOO_SLOW: _ClassVar[ErrorReason]
    ERROR_REASON_REFUSED: _ClassVar[ErrorReason]
    ERROR_REASON_REPLICA_FULL: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_REQUEST: ErrorReason
ERROR_REASON_CURSOR_INVALID: ErrorReason
ERROR_REASON_CURSOR_FOREIGN: ErrorReason
ERROR_REASON_CURSOR_FROM_LOST_STATE: ErrorReason
ERROR_REASON_CURSOR_TOO_NEW: ErrorReason
ERROR_REASON_REPLICA_BEHIND: ErrorReason
ERROR_REASON_GROUP_NOT_FORMED: ErrorReason
ERROR_REASON_NO_QUORUM: ErrorReason
ERROR_REASON_REPLICA_STOPPING: ErrorReason
ERROR_REASON_OUTCOME_UNKNOWN: ErrorReason
ERROR_REASON_CLUSTER_EXISTS: ErrorReason
ERROR_REASON_CLUSTER_NOT_FOUND: ErrorReason
ERROR_REASON_SHARD_NOT_FOUND: ErrorReason
ERROR_REASON_MEMBER_NOT_FOUND: ErrorReason
ERROR_REASON_ETAG_MISMATCH: ErrorReason
ERROR_REASON_LIMIT_REACHED: ErrorReason
ERROR_REASON_MEMBER_IN_USE: ErrorReason
ERROR_REASON_TOO_LARGE: ErrorReason
ERROR_REASON_REQUEST_ID_REUSED: ErrorReason
ERROR_REASON_SUBSCRIBER_TOO_SLOW: ErrorReason
ERROR_REASON_REFUSED: ErrorReason
ERROR_REASON_REPLICA_FULL: ErrorReason
