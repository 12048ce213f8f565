"""Saves every event exactly once in a database: consumer.py DATABASE ENDPOINT..."""

import logging
import sys

from quorumwatch import Subscription, blocking
from quorumwatch.sqlite import Store

logging.basicConfig(level=logging.INFO)
if len(sys.argv) < 3:
    sys.exit("usage: consumer.py DATABASE ENDPOINT...")
path, *endpoints = sys.argv[1:]
with Store(path) as store, blocking(Subscription(endpoints, kept=store.kept)) as subscription:
    for frames in subscription.batches():
        store.save(frames)
