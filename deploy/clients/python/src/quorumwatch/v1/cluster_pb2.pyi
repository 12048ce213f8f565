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

class ClusterCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLUSTER_CONDITION_UNSPECIFIED: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_UNKNOWN: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_CONNECTED: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_DEGRADED: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_UNREACHABLE: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_UNAUTHENTICATED: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_PERMISSION_DENIED: _ClassVar[ClusterCondition]
    CLUSTER_CONDITION_DUPLICATE: _ClassVar[ClusterCondition]

class ClusterChangeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLUSTER_CHANGE_TYPE_UNSPECIFIED: _ClassVar[ClusterChangeType]
    CLUSTER_CHANGE_TYPE_CREATED: _ClassVar[ClusterChangeType]
    CLUSTER_CHANGE_TYPE_UPDATED: _ClassVar[ClusterChangeType]
    CLUSTER_CHANGE_TYPE_DELETED: _ClassVar[ClusterChangeType]
    CLUSTER_CHANGE_TYPE_UNMATCHED: _ClassVar[ClusterChangeType]
CLUSTER_CONDITION_UNSPECIFIED: ClusterCondition
CLUSTER_CONDITION_UNKNOWN: ClusterCondition
CLUSTER_CONDITION_CONNECTED: ClusterCondition
CLUSTER_CONDITION_DEGRADED: ClusterCondition
CLUSTER_CONDITION_UNREACHABLE: ClusterCondition
CLUSTER_CONDITION_UNAUTHENTICATED: ClusterCondition
CLUSTER_CONDITION_PERMISSION_DENIED: ClusterCondition
CLUSTER_CONDITION_DUPLICATE: ClusterCondition
CLUSTER_CHANGE_TYPE_UNSPECIFIED: ClusterChangeType
CLUSTER_CHANGE_TYPE_CREATED: ClusterChangeType
CLUSTER_CHANGE_TYPE_UPDATED: ClusterChangeType
CLUSTER_CHANGE_TYPE_DELETED: ClusterChangeType
CLUSTER_CHANGE_TYPE_UNMATCHED: ClusterChangeType

class Cluster(_message.Message):
    __slots__ = ("name", "labels", "source", "resources", "paused", "description", "duplicate_of", "uid", "health", "create_time", "update_time", "etag", "lag")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_OF_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    source: ClusterSource
    resources: _containers.RepeatedCompositeFieldContainer[ResourceSelector]
    paused: bool
    description: str
    duplicate_of: str
    uid: str
    health: ClusterHealth
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    lag: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., source: _Optional[_Union[ClusterSource, _Mapping]] = ..., resources: _Optional[_Iterable[_Union[ResourceSelector, _Mapping]]] = ..., paused: _Optional[bool] = ..., description: _Optional[str] = ..., duplicate_of: _Optional[str] = ..., uid: _Optional[str] = ..., health: _Optional[_Union[ClusterHealth, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ClusterSource(_message.Message):
    __slots__ = ("kubeconfig_file", "kubeconfig_inline", "configured", "in_cluster")
    KUBECONFIG_FILE_FIELD_NUMBER: _ClassVar[int]
    KUBECONFIG_INLINE_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    IN_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    kubeconfig_file: KubeconfigFile
    kubeconfig_inline: KubeconfigInline
    configured: str
    in_cluster: InCluster
    def __init__(self, kubeconfig_file: _Optional[_Union[KubeconfigFile, _Mapping]] = ..., kubeconfig_inline: _Optional[_Union[KubeconfigInline, _Mapping]] = ..., configured: _Optional[str] = ..., in_cluster: _Optional[_Union[InCluster, _Mapping]] = ...) -> None: ...

class KubeconfigFile(_message.Message):
    __slots__ = ("path", "context")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    path: str
    context: str
    def __init__(self, path: _Optional[str] = ..., context: _Optional[str] = ...) -> None: ...

class KubeconfigInline(_message.Message):
    __slots__ = ("yaml", "context")
    YAML_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    yaml: str
    context: str
    def __init__(self, yaml: _Optional[str] = ..., context: _Optional[str] = ...) -> None: ...

class InCluster(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResourceSelector(_message.Message):
    __slots__ = ("resource", "namespaces", "label_selector", "field_selector")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FIELD_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    resource: str
    namespaces: _containers.RepeatedScalarFieldContainer[str]
    label_selector: str
    field_selector: str
    def __init__(self, resource: _Optional[str] = ..., namespaces: _Optional[_Iterable[str]] = ..., label_selector: _Optional[str] = ..., field_selector: _Optional[str] = ...) -> None: ...

class ClusterHealth(_message.Message):
    __slots__ = ("condition", "reason", "since_time")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    condition: ClusterCondition
    reason: str
    since_time: _timestamp_pb2.Timestamp
    def __init__(self, condition: _Optional[_Union[ClusterCondition, str]] = ..., reason: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ClusterChange(_message.Message):
    __slots__ = ("type", "cluster")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    type: ClusterChangeType
    cluster: Cluster
    def __init__(self, type: _Optional[_Union[ClusterChangeType, str]] = ..., cluster: _Optional[_Union[Cluster, _Mapping]] = ...) -> None: ...
