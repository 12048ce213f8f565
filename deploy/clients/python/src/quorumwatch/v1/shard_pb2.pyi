import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from quorumwatch.v1 import position_pb2 as _position_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShardPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHARD_PHASE_UNSPECIFIED: _ClassVar[ShardPhase]
    SHARD_PHASE_UNASSIGNED: _ClassVar[ShardPhase]
    SHARD_PHASE_ACTIVE: _ClassVar[ShardPhase]

class MoveReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOVE_REASON_UNSPECIFIED: _ClassVar[MoveReason]
    MOVE_REASON_CREATED: _ClassVar[MoveReason]
    MOVE_REASON_PLACED: _ClassVar[MoveReason]
    MOVE_REASON_TAKEOVER: _ClassVar[MoveReason]
    MOVE_REASON_REBALANCE: _ClassVar[MoveReason]
    MOVE_REASON_NO_REPLICA: _ClassVar[MoveReason]
    MOVE_REASON_PAUSED: _ClassVar[MoveReason]
    MOVE_REASON_DELETED: _ClassVar[MoveReason]
    MOVE_REASON_HANDOVER: _ClassVar[MoveReason]
    MOVE_REASON_DRAINED: _ClassVar[MoveReason]
    MOVE_REASON_REQUESTED: _ClassVar[MoveReason]
    MOVE_REASON_REACHABILITY: _ClassVar[MoveReason]

class ShardChangeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHARD_CHANGE_TYPE_UNSPECIFIED: _ClassVar[ShardChangeType]
    SHARD_CHANGE_TYPE_CREATED: _ClassVar[ShardChangeType]
    SHARD_CHANGE_TYPE_MOVED: _ClassVar[ShardChangeType]
    SHARD_CHANGE_TYPE_UPDATED: _ClassVar[ShardChangeType]
    SHARD_CHANGE_TYPE_DELETED: _ClassVar[ShardChangeType]
SHARD_PHASE_UNSPECIFIED: ShardPhase
SHARD_PHASE_UNASSIGNED: ShardPhase
SHARD_PHASE_ACTIVE: ShardPhase
MOVE_REASON_UNSPECIFIED: MoveReason
MOVE_REASON_CREATED: MoveReason
MOVE_REASON_PLACED: MoveReason
MOVE_REASON_TAKEOVER: MoveReason
MOVE_REASON_REBALANCE: MoveReason
MOVE_REASON_NO_REPLICA: MoveReason
MOVE_REASON_PAUSED: MoveReason
MOVE_REASON_DELETED: MoveReason
MOVE_REASON_HANDOVER: MoveReason
MOVE_REASON_DRAINED: MoveReason
MOVE_REASON_REQUESTED: MoveReason
MOVE_REASON_REACHABILITY: MoveReason
SHARD_CHANGE_TYPE_UNSPECIFIED: ShardChangeType
SHARD_CHANGE_TYPE_CREATED: ShardChangeType
SHARD_CHANGE_TYPE_MOVED: ShardChangeType
SHARD_CHANGE_TYPE_UPDATED: ShardChangeType
SHARD_CHANGE_TYPE_DELETED: ShardChangeType

class Shard(_message.Message):
    __slots__ = ("name", "cluster", "owner", "epoch", "phase", "reason", "since_time", "streams")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    cluster: str
    owner: str
    epoch: int
    phase: ShardPhase
    reason: MoveReason
    since_time: _timestamp_pb2.Timestamp
    streams: _containers.RepeatedCompositeFieldContainer[Stream]
    def __init__(self, name: _Optional[str] = ..., cluster: _Optional[str] = ..., owner: _Optional[str] = ..., epoch: _Optional[int] = ..., phase: _Optional[_Union[ShardPhase, str]] = ..., reason: _Optional[_Union[MoveReason, str]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., streams: _Optional[_Iterable[_Union[Stream, _Mapping]]] = ...) -> None: ...

class Stream(_message.Message):
    __slots__ = ("stream", "resource", "namespace", "label_selector", "field_selector", "checkpoint")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FIELD_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    stream: str
    resource: str
    namespace: str
    label_selector: str
    field_selector: str
    checkpoint: _position_pb2.Position
    def __init__(self, stream: _Optional[str] = ..., resource: _Optional[str] = ..., namespace: _Optional[str] = ..., label_selector: _Optional[str] = ..., field_selector: _Optional[str] = ..., checkpoint: _Optional[_Union[_position_pb2.Position, _Mapping]] = ...) -> None: ...

class ShardChange(_message.Message):
    __slots__ = ("type", "shard", "old_owner", "time")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    OLD_OWNER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    type: ShardChangeType
    shard: Shard
    old_owner: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, type: _Optional[_Union[ShardChangeType, str]] = ..., shard: _Optional[_Union[Shard, _Mapping]] = ..., old_owner: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
