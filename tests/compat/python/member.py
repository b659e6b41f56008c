"""What the Python members of groups share: how they tell their lives, as ../README.md describes it."""

import json
import signal
import sys
import time

HEARTBEAT_MS = 500


def arguments():
    """bootstrap, group, topic, protocol, instance or None"""
    return [*sys.argv[1:], None][:5]


def session_ms(instance):
    """A member with a name has time to come back."""
    return 30_000 if instance else 6_000


def tell(event, **more):
    print(json.dumps({"at": time.time_ns() // 1000, "event": event, **more}), flush=True)


class Stop:
    """Whether SIGTERM came."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_):
        self.asked = True
