"""The client of quorumwatch: subscriptions that resume automatically, and tables of their objects.

The messages are those of the protocol, in `quorumwatch.v1`.
"""

from quorumwatch._call import Connect
from quorumwatch.blocking import BlockingSubscription, blocking
from quorumwatch.cursor import Cursor
from quorumwatch.errors import (
    ClosedError,
    CursorError,
    Failure,
    QuorumwatchError,
    Reaction,
    RefusedError,
)
from quorumwatch.subscription import Frame, Start, Subscription
from quorumwatch.table import Did, Key, RowChange, Table
from quorumwatch.v1.event_service_pb2 import (
    Filter,
    KubernetesEventFilter,
    ObjectReference,
    Until,
    View,
)

__all__ = [
    "BlockingSubscription",
    "ClosedError",
    "Connect",
    "Cursor",
    "CursorError",
    "Did",
    "Failure",
    "Filter",
    "Frame",
    "Key",
    "KubernetesEventFilter",
    "ObjectReference",
    "QuorumwatchError",
    "Reaction",
    "RefusedError",
    "RowChange",
    "Start",
    "Subscription",
    "Table",
    "Until",
    "View",
    "blocking",
]
