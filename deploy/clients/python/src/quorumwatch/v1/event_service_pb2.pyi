from quorumwatch.v1 import event_pb2 as _event_pb2
from quorumwatch.v1 import watch_pb2 as _watch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class View(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIEW_UNSPECIFIED: _ClassVar[View]
    VIEW_FULL: _ClassVar[View]
    VIEW_METADATA: _ClassVar[View]
    VIEW_NONE: _ClassVar[View]

class Until(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNTIL_UNSPECIFIED: _ClassVar[Until]
    UNTIL_UP_TO_DATE: _ClassVar[Until]
VIEW_UNSPECIFIED: View
VIEW_FULL: View
VIEW_METADATA: View
VIEW_NONE: View
UNTIL_UNSPECIFIED: Until
UNTIL_UP_TO_DATE: Until

class SubscribeRequest(_message.Message):
    __slots__ = ("filters", "now", "snapshot", "resume", "view", "until", "client_name")
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    now: FromNow
    snapshot: FromSnapshot
    resume: FromCursor
    view: View
    until: Until
    client_name: str
    def __init__(self, filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ..., now: _Optional[_Union[FromNow, _Mapping]] = ..., snapshot: _Optional[_Union[FromSnapshot, _Mapping]] = ..., resume: _Optional[_Union[FromCursor, _Mapping]] = ..., view: _Optional[_Union[View, str]] = ..., until: _Optional[_Union[Until, str]] = ..., client_name: _Optional[str] = ...) -> None: ...

class FromNow(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FromSnapshot(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FromCursor(_message.Message):
    __slots__ = ("cursors",)
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    cursors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cursors: _Optional[_Iterable[str]] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("clusters", "cluster_selector", "resources", "namespaces", "names", "object_selector", "change_types", "kubernetes_event", "field_selector")
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TYPES_FIELD_NUMBER: _ClassVar[int]
    KUBERNETES_EVENT_FIELD_NUMBER: _ClassVar[int]
    FIELD_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedScalarFieldContainer[str]
    cluster_selector: str
    resources: _containers.RepeatedScalarFieldContainer[str]
    namespaces: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedScalarFieldContainer[str]
    object_selector: str
    change_types: _containers.RepeatedScalarFieldContainer[_event_pb2.ChangeType]
    kubernetes_event: KubernetesEventFilter
    field_selector: str
    def __init__(self, clusters: _Optional[_Iterable[str]] = ..., cluster_selector: _Optional[str] = ..., resources: _Optional[_Iterable[str]] = ..., namespaces: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[str]] = ..., object_selector: _Optional[str] = ..., change_types: _Optional[_Iterable[_Union[_event_pb2.ChangeType, str]]] = ..., kubernetes_event: _Optional[_Union[KubernetesEventFilter, _Mapping]] = ..., field_selector: _Optional[str] = ...) -> None: ...

class KubernetesEventFilter(_message.Message):
    __slots__ = ("types", "reasons", "sources", "involved_object")
    TYPES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    INVOLVED_OBJECT_FIELD_NUMBER: _ClassVar[int]
    types: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    involved_object: ObjectReference
    def __init__(self, types: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., involved_object: _Optional[_Union[ObjectReference, _Mapping]] = ...) -> None: ...

class ObjectReference(_message.Message):
    __slots__ = ("kind", "namespace", "name", "uid")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    uid: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("cursor", "cursor_delta", "event", "stream_change", "gap", "synced", "progress", "closing", "heartbeat")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    CURSOR_DELTA_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    STREAM_CHANGE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    cursor_delta: str
    event: _event_pb2.Event
    stream_change: _event_pb2.StreamChange
    gap: _event_pb2.Gap
    synced: _event_pb2.Synced
    progress: _event_pb2.Progress
    closing: _event_pb2.Closing
    heartbeat: _watch_pb2.Heartbeat
    def __init__(self, cursor: _Optional[str] = ..., cursor_delta: _Optional[str] = ..., event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ..., stream_change: _Optional[_Union[_event_pb2.StreamChange, _Mapping]] = ..., gap: _Optional[_Union[_event_pb2.Gap, _Mapping]] = ..., synced: _Optional[_Union[_event_pb2.Synced, _Mapping]] = ..., progress: _Optional[_Union[_event_pb2.Progress, _Mapping]] = ..., closing: _Optional[_Union[_event_pb2.Closing, _Mapping]] = ..., heartbeat: _Optional[_Union[_watch_pb2.Heartbeat, _Mapping]] = ...) -> None: ...
