import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_ROLE_UNSPECIFIED: _ClassVar[MemberRole]
    MEMBER_ROLE_REGISTERED: _ClassVar[MemberRole]
    MEMBER_ROLE_LEARNER: _ClassVar[MemberRole]
    MEMBER_ROLE_VOTER: _ClassVar[MemberRole]
    MEMBER_ROLE_LEADER: _ClassVar[MemberRole]

class MemberHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_HEALTH_UNSPECIFIED: _ClassVar[MemberHealth]
    MEMBER_HEALTH_UNKNOWN: _ClassVar[MemberHealth]
    MEMBER_HEALTH_ACTIVE: _ClassVar[MemberHealth]
    MEMBER_HEALTH_SUSPECT: _ClassVar[MemberHealth]
    MEMBER_HEALTH_UNAVAILABLE: _ClassVar[MemberHealth]
MEMBER_ROLE_UNSPECIFIED: MemberRole
MEMBER_ROLE_REGISTERED: MemberRole
MEMBER_ROLE_LEARNER: MemberRole
MEMBER_ROLE_VOTER: MemberRole
MEMBER_ROLE_LEADER: MemberRole
MEMBER_HEALTH_UNSPECIFIED: MemberHealth
MEMBER_HEALTH_UNKNOWN: MemberHealth
MEMBER_HEALTH_ACTIVE: MemberHealth
MEMBER_HEALTH_SUSPECT: MemberHealth
MEMBER_HEALTH_UNAVAILABLE: MemberHealth

class Group(_message.Message):
    __slots__ = ("group_id", "leader", "term", "members", "has_quorum", "problem")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    HAS_QUORUM_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    leader: str
    term: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    has_quorum: bool
    problem: str
    def __init__(self, group_id: _Optional[str] = ..., leader: _Optional[str] = ..., term: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., has_quorum: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("name", "replica_id", "role", "peer_address", "client_address", "health", "start_time", "shards", "silence", "version", "clock_offset", "draining")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    name: str
    replica_id: str
    role: MemberRole
    peer_address: str
    client_address: str
    health: MemberHealth
    start_time: _timestamp_pb2.Timestamp
    shards: int
    silence: _duration_pb2.Duration
    version: str
    clock_offset: _duration_pb2.Duration
    draining: bool
    def __init__(self, name: _Optional[str] = ..., replica_id: _Optional[str] = ..., role: _Optional[_Union[MemberRole, str]] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., health: _Optional[_Union[MemberHealth, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shards: _Optional[int] = ..., silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., version: _Optional[str] = ..., clock_offset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., draining: _Optional[bool] = ...) -> None: ...
