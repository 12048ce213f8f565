from quorumwatch.v1 import shard_pb2 as _shard_pb2
from quorumwatch.v1 import watch_pb2 as _watch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetShardRequest(_message.Message):
    __slots__ = ("name", "min_revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    min_revision: int
    def __init__(self, name: _Optional[str] = ..., min_revision: _Optional[int] = ...) -> None: ...

class GetShardResponse(_message.Message):
    __slots__ = ("shard", "revision")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    shard: _shard_pb2.Shard
    revision: int
    def __init__(self, shard: _Optional[_Union[_shard_pb2.Shard, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ListShardsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "clusters", "owners", "min_revision")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    clusters: _containers.RepeatedScalarFieldContainer[str]
    owners: _containers.RepeatedScalarFieldContainer[str]
    min_revision: int
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., clusters: _Optional[_Iterable[str]] = ..., owners: _Optional[_Iterable[str]] = ..., min_revision: _Optional[int] = ...) -> None: ...

class ListShardsResponse(_message.Message):
    __slots__ = ("shards", "next_page_token", "revision")
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[_shard_pb2.Shard]
    next_page_token: str
    revision: int
    def __init__(self, shards: _Optional[_Iterable[_Union[_shard_pb2.Shard, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class WatchShardsRequest(_message.Message):
    __slots__ = ("resume_token", "clusters", "owners", "min_revision")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    clusters: _containers.RepeatedScalarFieldContainer[str]
    owners: _containers.RepeatedScalarFieldContainer[str]
    min_revision: int
    def __init__(self, resume_token: _Optional[str] = ..., clusters: _Optional[_Iterable[str]] = ..., owners: _Optional[_Iterable[str]] = ..., min_revision: _Optional[int] = ...) -> None: ...

class WatchShardsResponse(_message.Message):
    __slots__ = ("resume_token", "revision", "snapshot", "snapshot_end", "change", "heartbeat")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    revision: int
    snapshot: ShardPage
    snapshot_end: _watch_pb2.SnapshotEnd
    change: _shard_pb2.ShardChange
    heartbeat: _watch_pb2.Heartbeat
    def __init__(self, resume_token: _Optional[str] = ..., revision: _Optional[int] = ..., snapshot: _Optional[_Union[ShardPage, _Mapping]] = ..., snapshot_end: _Optional[_Union[_watch_pb2.SnapshotEnd, _Mapping]] = ..., change: _Optional[_Union[_shard_pb2.ShardChange, _Mapping]] = ..., heartbeat: _Optional[_Union[_watch_pb2.Heartbeat, _Mapping]] = ...) -> None: ...

class ShardPage(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[_shard_pb2.Shard]
    def __init__(self, shards: _Optional[_Iterable[_Union[_shard_pb2.Shard, _Mapping]]] = ...) -> None: ...

class MoveShardRequest(_message.Message):
    __slots__ = ("name", "to", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    to: str
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., to: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class MoveShardResponse(_message.Message):
    __slots__ = ("shard", "revision")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    shard: _shard_pb2.Shard
    revision: int
    def __init__(self, shard: _Optional[_Union[_shard_pb2.Shard, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...
