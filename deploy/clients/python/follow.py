"""Follows quorumwatch and appends what it hears to a file, each event exactly once.

It outlives the replica that serves it, and a `kill -9` of itself. How, and what exactly is
promised: ../README.md. The protocol of cursors: src/docs/clients.md.
"""

import argparse
import asyncio
import fcntl
import itertools
import json
import logging
import os
import random
import signal
import sys
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent / "generated"))
from quorumwatch.v1 import event_pb2, event_service_pb2, event_service_pb2_grpc

log = logging.getLogger("follow")

# What is in memory is on disk at most this much later (seconds).
COMMIT_EVERY = 1.0
# A replica tells Progress at least every five seconds; one that misses two is left (seconds).
SILENCE_MAX = 12.0
# A replica that takes longer for its first frame, the connection included, is passed over (seconds).
FIRST_FRAME_WITHIN = 5.0
# The pause after every replica was tried in vain: short at first, because a takeover is short, and
# never long, because the API servers forget (seconds).
PAUSE_MIN, PAUSE_MAX = 0.05, 2.0

CHANNEL_OPTIONS = [
    # An object may have 8 MiB; the default is 4 MiB.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]

# The request itself is at fault: no replica will take it. Anything else is worth another try.
FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DATA_LOSS,
}


class Fatal(Exception):
    """What no other replica and no second try can help with."""


class Cursor:
    """Where to resume: the cursor of the last Progress, then those of the frames after it."""

    def __init__(self, text: str = ""):
        self.parts = [text] if text else []

    def keep(self, response) -> None:
        if response.WhichOneof("frame") == "progress":
            self.parts = [response.cursor]
        elif response.cursor:
            self.parts.append(response.cursor)

    def __str__(self) -> str:
        return ",".join(self.parts)


class Journal:
    """Lines, and the cursor after the last of them.

    The state file says how much of the output counts, and where to resume after that; it is
    replaced in one step. What a crash left beyond that is cut off at the next start and told again
    by the service. With a database, put the cursor and the rows in one transaction instead.
    """

    def __init__(self, output: Path, state: Path):
        self.state_path = state
        self.output = open(output, "ab")
        try:
            # Two processes with one cursor would write everything twice.
            fcntl.flock(self.output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fatal(f"{output} is in use by another process") from None
        if state.exists():
            saved = json.loads(state.read_text())
        elif self.output.tell() == 0:
            saved = {"cursor": "", "output_bytes": 0}
        else:
            raise Fatal(f"{output} has content but {state} does not exist; move one of them")
        if self.output.tell() < saved["output_bytes"]:
            raise Fatal(f"{output} is shorter than {state} says: something was cut off")
        self.output.truncate(saved["output_bytes"])
        self.output.seek(0, os.SEEK_END)
        self.cursor = Cursor(saved["cursor"])
        self.is_saved = False
        self.commit()

    def write(self, line: bytes) -> None:
        self.output.write(line + b"\n")

    def keep(self, response) -> None:
        self.cursor.keep(response)
        self.is_saved = False

    def commit(self) -> None:
        """First the lines, then the state that counts them."""
        if self.is_saved:
            return
        self.output.flush()
        os.fsync(self.output.fileno())
        state = {"cursor": str(self.cursor), "output_bytes": self.output.tell()}
        new = self.state_path.with_name(self.state_path.name + ".new")
        with open(new, "w") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.state_path)
        folder = os.open(self.state_path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self.is_saved = True


def on_event(journal: Journal, event) -> None:
    """A change, or (SNAPSHOT) an object as a snapshot found it."""
    fields = {
        "kind": "event",
        "type": event_pb2.EventType.Name(event.type).removeprefix("EVENT_TYPE_"),
        "cluster": event.cluster,
        "resource": event.resource,
        "position": event.position,
        "id": event.id,
    }
    head = json.dumps(fields).encode()
    # The object as the API server sent it. A line break in JSON can only be white space.
    journal.write(head[:-1] + b', "object": ' + event.object_json.replace(b"\n", b" ") + b"}")


def on_gap(journal: Journal, gap) -> None:
    """Something is missing here, and no replica can tell it any more.

    Whoever keeps a table of objects: `repaired` means that the changes which follow, deletions
    included, bring it up to date. Otherwise a snapshot follows: note which objects it names until
    Synced, then drop the others. SNAPSHOT_RESTARTED: begin that note anew.
    """
    reason = event_pb2.GapReason.Name(gap.reason).removeprefix("GAP_REASON_")
    log.warning("gap in %s %s: %s (%s)", gap.cluster, gap.resource, gap.message, reason)
    journal.write(
        json.dumps(
            {
                "kind": "gap",
                "cluster": gap.cluster,
                "resource": gap.resource,
                "from": getattr(gap, "from"),
                "to": gap.to,
                "reason": reason,
                "repaired": gap.repaired,
            }
        ).encode()
    )


def on_synced(journal: Journal, synced) -> None:
    """A snapshot is complete: what was had before and not seen again in it is gone."""
    fields = {
        "kind": "synced",
        "cluster": synced.cluster,
        "resource": synced.resource,
        "position": synced.position,
    }
    journal.write(json.dumps(fields).encode())


def take(journal: Journal, response) -> None:
    """Nothing may be awaited in here: a commit sees a frame and its cursor, or neither."""
    match response.WhichOneof("frame"):
        case "event":
            on_event(journal, response.event)
        case "gap":
            on_gap(journal, response.gap)
        case "synced":
            on_synced(journal, response.synced)
    journal.keep(response)


class Follower:
    def __init__(self, arguments, journal: Journal):
        self.endpoints = arguments.endpoints.split(",")
        self.arguments = arguments
        self.journal = journal
        # Attempts in a row that brought no frame.
        self.failed = 0

    async def run(self) -> None:
        """Follows at one replica after the other, for ever."""
        for endpoint in itertools.cycle(self.endpoints):
            await asyncio.sleep(self.pause())
            try:
                await self.follow(endpoint)
                reason = "it ended the stream"
            except TimeoutError:
                reason = "it is silent"
            except grpc.aio.AioRpcError as error:
                if error.code() in FINAL:
                    raise Fatal(f"{endpoint} refuses the request: {error.details()}") from None
                reason = f"{error.code().name}: {error.details()}"
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    # Nothing is lost: all that was not taken follows again. It must be taken
                    # faster, or less asked for.
                    reason = f"this program is too slow: {error.details()}"
            self.failed += 1
            log.info("left %s: %s", endpoint, reason)

    async def follow(self, endpoint: str) -> None:
        async with grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS) as channel:
            call = event_service_pb2_grpc.EventServiceStub(channel).Subscribe(self.request())
            within = FIRST_FRAME_WITHIN
            while True:
                response = await asyncio.wait_for(call.read(), within)
                if response is grpc.aio.EOF:
                    return
                if within == FIRST_FRAME_WITHIN:
                    log.info("following at %s", endpoint)
                within, self.failed = SILENCE_MAX, 0
                take(self.journal, response)

    def request(self):
        request = event_service_pb2.SubscribeRequest(
            filter=event_service_pb2.Filter(clusters=self.arguments.cluster),
            cursor=str(self.journal.cursor),
        )
        if not request.cursor and self.arguments.snapshot:
            request.start = event_service_pb2.START_SNAPSHOT
        return request

    def pause(self) -> float:
        """None while there are replicas left to try; then it doubles round by round."""
        rounds = self.failed // len(self.endpoints)
        if rounds == 0:
            return 0
        return min(PAUSE_MIN * 2 ** min(rounds - 1, 10), PAUSE_MAX) * random.uniform(0.5, 1)


async def commit_regularly(journal: Journal) -> None:
    while True:
        await asyncio.sleep(COMMIT_EVERY)
        journal.commit()


async def main(arguments) -> None:
    journal = Journal(arguments.output, arguments.state)
    follower = Follower(arguments, journal)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(follower.run()),
                tasks.create_task(commit_regularly(journal)),
            ]
            loop = asyncio.get_running_loop()
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, lambda: [task.cancel() for task in running])
    finally:
        journal.commit()
    log.info("stopped; the next start goes on from here")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--endpoints", default="127.0.0.1:7400", help="replicas, as host:port,host:port"
    )
    parser.add_argument("--output", type=Path, default="events.jsonl", help="appended to")
    parser.add_argument("--state", type=Path, default="state.json", help="where to resume")
    parser.add_argument(
        "--cluster", action="append", default=[], help="only this one; may be repeated"
    )
    parser.add_argument("--snapshot", action="store_true", help="begin with what exists now")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(main(parse()))
    except* (Fatal, OSError) as fatal:
        raise SystemExit(str(fatal.exceptions[0])) from None
