import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from quorumwatch.v1 import position_pb2 as _position_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_TYPE_UNSPECIFIED: _ClassVar[ChangeType]
    CHANGE_TYPE_ADDED: _ClassVar[ChangeType]
    CHANGE_TYPE_MODIFIED: _ClassVar[ChangeType]
    CHANGE_TYPE_DELETED: _ClassVar[ChangeType]
    CHANGE_TYPE_SNAPSHOT: _ClassVar[ChangeType]
    CHANGE_TYPE_UNMATCHED: _ClassVar[ChangeType]

class ObjectContent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBJECT_CONTENT_UNSPECIFIED: _ClassVar[ObjectContent]
    OBJECT_CONTENT_FULL: _ClassVar[ObjectContent]
    OBJECT_CONTENT_METADATA: _ClassVar[ObjectContent]
    OBJECT_CONTENT_NONE: _ClassVar[ObjectContent]

class StreamChangeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_CHANGE_TYPE_UNSPECIFIED: _ClassVar[StreamChangeType]
    STREAM_CHANGE_TYPE_ADDED: _ClassVar[StreamChangeType]
    STREAM_CHANGE_TYPE_REMOVED: _ClassVar[StreamChangeType]
    STREAM_CHANGE_TYPE_PAUSED: _ClassVar[StreamChangeType]
    STREAM_CHANGE_TYPE_RESUMED: _ClassVar[StreamChangeType]
    STREAM_CHANGE_TYPE_CHANGED: _ClassVar[StreamChangeType]

class StreamChangeReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_CHANGE_REASON_UNSPECIFIED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_SUBSCRIBED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_CONTINUED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_CREATED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_MATCHED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_UNMATCHED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_CLUSTER_DELETED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_RESOURCE_REMOVED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_REMOVED_SINCE_CURSOR: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_CLUSTER_PAUSED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_FILTER_CHANGED: _ClassVar[StreamChangeReason]
    STREAM_CHANGE_REASON_CLUSTER_IDENTIFIED: _ClassVar[StreamChangeReason]

class GapReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_REASON_UNSPECIFIED: _ClassVar[GapReason]
    GAP_REASON_HISTORY_EXPIRED: _ClassVar[GapReason]
    GAP_REASON_HISTORY_RESET: _ClassVar[GapReason]
    GAP_REASON_CLUSTER_REPLACED: _ClassVar[GapReason]
    GAP_REASON_WATCH_CACHE_RESET: _ClassVar[GapReason]
    GAP_REASON_UPSTREAM_INCONSISTENT: _ClassVar[GapReason]
    GAP_REASON_SNAPSHOT_RESTARTED: _ClassVar[GapReason]
    GAP_REASON_FILTER_CHANGED: _ClassVar[GapReason]

class ClosingReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOSING_REASON_UNSPECIFIED: _ClassVar[ClosingReason]
    CLOSING_REASON_REPLICA_STOPPING: _ClassVar[ClosingReason]
    CLOSING_REASON_NO_QUORUM: _ClassVar[ClosingReason]
    CLOSING_REASON_SUBSCRIBER_TOO_SLOW: _ClassVar[ClosingReason]
    CLOSING_REASON_COMPLETE: _ClassVar[ClosingReason]

class ClosingAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOSING_ACTION_UNSPECIFIED: _ClassVar[ClosingAction]
    CLOSING_ACTION_RESUME_ELSEWHERE: _ClassVar[ClosingAction]
    CLOSING_ACTION_RESUME: _ClassVar[ClosingAction]
    CLOSING_ACTION_STOP: _ClassVar[ClosingAction]
CHANGE_TYPE_UNSPECIFIED: ChangeType
CHANGE_TYPE_ADDED: ChangeType
CHANGE_TYPE_MODIFIED: ChangeType
CHANGE_TYPE_DELETED: ChangeType
CHANGE_TYPE_SNAPSHOT: ChangeType
CHANGE_TYPE_UNMATCHED: ChangeType
OBJECT_CONTENT_UNSPECIFIED: ObjectContent
OBJECT_CONTENT_FULL: ObjectContent
OBJECT_CONTENT_METADATA: ObjectContent
OBJECT_CONTENT_NONE: ObjectContent
STREAM_CHANGE_TYPE_UNSPECIFIED: StreamChangeType
STREAM_CHANGE_TYPE_ADDED: StreamChangeType
STREAM_CHANGE_TYPE_REMOVED: StreamChangeType
STREAM_CHANGE_TYPE_PAUSED: StreamChangeType
STREAM_CHANGE_TYPE_RESUMED: StreamChangeType
STREAM_CHANGE_TYPE_CHANGED: StreamChangeType
STREAM_CHANGE_REASON_UNSPECIFIED: StreamChangeReason
STREAM_CHANGE_REASON_SUBSCRIBED: StreamChangeReason
STREAM_CHANGE_REASON_CONTINUED: StreamChangeReason
STREAM_CHANGE_REASON_CREATED: StreamChangeReason
STREAM_CHANGE_REASON_MATCHED: StreamChangeReason
STREAM_CHANGE_REASON_UNMATCHED: StreamChangeReason
STREAM_CHANGE_REASON_CLUSTER_DELETED: StreamChangeReason
STREAM_CHANGE_REASON_RESOURCE_REMOVED: StreamChangeReason
STREAM_CHANGE_REASON_REMOVED_SINCE_CURSOR: StreamChangeReason
STREAM_CHANGE_REASON_CLUSTER_PAUSED: StreamChangeReason
STREAM_CHANGE_REASON_FILTER_CHANGED: StreamChangeReason
STREAM_CHANGE_REASON_CLUSTER_IDENTIFIED: StreamChangeReason
GAP_REASON_UNSPECIFIED: GapReason
GAP_REASON_HISTORY_EXPIRED: GapReason
GAP_REASON_HISTORY_RESET: GapReason
GAP_REASON_CLUSTER_REPLACED: GapReason
GAP_REASON_WATCH_CACHE_RESET: GapReason
GAP_REASON_UPSTREAM_INCONSISTENT: GapReason
GAP_REASON_SNAPSHOT_RESTARTED: GapReason
GAP_REASON_FILTER_CHANGED: GapReason
CLOSING_REASON_UNSPECIFIED: ClosingReason
CLOSING_REASON_REPLICA_STOPPING: ClosingReason
CLOSING_REASON_NO_QUORUM: ClosingReason
CLOSING_REASON_SUBSCRIBER_TOO_SLOW: ClosingReason
CLOSING_REASON_COMPLETE: ClosingReason
CLOSING_ACTION_UNSPECIFIED: ClosingAction
CLOSING_ACTION_RESUME_ELSEWHERE: ClosingAction
CLOSING_ACTION_RESUME: ClosingAction
CLOSING_ACTION_STOP: ClosingAction

class Event(_message.Message):
    __slots__ = ("id", "stream", "cluster", "resource", "change_type", "position", "epoch", "object", "object_json", "object_content", "seen_time", "sent_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_JSON_FIELD_NUMBER: _ClassVar[int]
    OBJECT_CONTENT_FIELD_NUMBER: _ClassVar[int]
    SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    SENT_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    stream: str
    cluster: str
    resource: str
    change_type: ChangeType
    position: _position_pb2.Position
    epoch: int
    object: ObjectMeta
    object_json: str
    object_content: ObjectContent
    seen_time: _timestamp_pb2.Timestamp
    sent_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., stream: _Optional[str] = ..., cluster: _Optional[str] = ..., resource: _Optional[str] = ..., change_type: _Optional[_Union[ChangeType, str]] = ..., position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ..., epoch: _Optional[int] = ..., object: _Optional[_Union[ObjectMeta, _Mapping]] = ..., object_json: _Optional[str] = ..., object_content: _Optional[_Union[ObjectContent, str]] = ..., seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sent_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ObjectMeta(_message.Message):
    __slots__ = ("namespace", "name", "uid", "resource_version")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    resource_version: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., resource_version: _Optional[str] = ...) -> None: ...

class StreamChange(_message.Message):
    __slots__ = ("stream", "type", "reason", "position", "snapshot_follows", "cluster", "cluster_uid", "resource", "namespace", "label_selector", "field_selector", "paused", "message", "snapshot_continues")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FOLLOWS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_UID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FIELD_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CONTINUES_FIELD_NUMBER: _ClassVar[int]
    stream: str
    type: StreamChangeType
    reason: StreamChangeReason
    position: _position_pb2.Position
    snapshot_follows: bool
    cluster: str
    cluster_uid: str
    resource: str
    namespace: str
    label_selector: str
    field_selector: str
    paused: bool
    message: str
    snapshot_continues: bool
    def __init__(self, stream: _Optional[str] = ..., type: _Optional[_Union[StreamChangeType, str]] = ..., reason: _Optional[_Union[StreamChangeReason, str]] = ..., position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ..., snapshot_follows: _Optional[bool] = ..., cluster: _Optional[str] = ..., cluster_uid: _Optional[str] = ..., resource: _Optional[str] = ..., namespace: _Optional[str] = ..., label_selector: _Optional[str] = ..., field_selector: _Optional[str] = ..., paused: _Optional[bool] = ..., message: _Optional[str] = ..., snapshot_continues: _Optional[bool] = ...) -> None: ...

class Synced(_message.Message):
    __slots__ = ("stream", "cluster", "resource", "position")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    stream: str
    cluster: str
    resource: str
    position: _position_pb2.Position
    def __init__(self, stream: _Optional[str] = ..., cluster: _Optional[str] = ..., resource: _Optional[str] = ..., position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("time", "streams", "up_to_date")
    TIME_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    UP_TO_DATE_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    streams: _containers.RepeatedCompositeFieldContainer[StreamProgress]
    up_to_date: bool
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., streams: _Optional[_Iterable[_Union[StreamProgress, _Mapping]]] = ..., up_to_date: _Optional[bool] = ...) -> None: ...

class StreamProgress(_message.Message):
    __slots__ = ("stream", "position", "heard_time", "catching_up")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    HEARD_TIME_FIELD_NUMBER: _ClassVar[int]
    CATCHING_UP_FIELD_NUMBER: _ClassVar[int]
    stream: str
    position: _position_pb2.Position
    heard_time: _timestamp_pb2.Timestamp
    catching_up: bool
    def __init__(self, stream: _Optional[str] = ..., position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ..., heard_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., catching_up: _Optional[bool] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("stream", "cluster", "resource", "to", "reason", "repaired", "message")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    cluster: str
    resource: str
    to: _position_pb2.Position
    reason: GapReason
    repaired: bool
    message: str
    def __init__(self, stream: _Optional[str] = ..., cluster: _Optional[str] = ..., resource: _Optional[str] = ..., to: _Optional[_Union[_position_pb2.Position, _Mapping]] = ..., reason: _Optional[_Union[GapReason, str]] = ..., repaired: _Optional[bool] = ..., message: _Optional[str] = ..., **kwargs) -> None: ...

class Closing(_message.Message):
    __slots__ = ("reason", "action", "retry_delay", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: ClosingReason
    action: ClosingAction
    retry_delay: _duration_pb2.Duration
    message: str
    def __init__(self, reason: _Optional[_Union[ClosingReason, str]] = ..., action: _Optional[_Union[ClosingAction, str]] = ..., retry_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...
