from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Position(_message.Message):
    __slots__ = ("era", "resource_version", "ordinal")
    ERA_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    era: int
    resource_version: str
    ordinal: int
    def __init__(self, era: _Optional[int] = ..., resource_version: _Optional[str] = ..., ordinal: _Optional[int] = ...) -> None: ...
