"""The one convention for conversations: state machines without I/O.

A machine takes events and gives back commands; a driver carries the commands out and brings what
comes of them as further events. Time is handed in: `now` is monotonic seconds and decides when to
act, `unix_now` is Unix seconds and decides whether a signed thing is still valid. A machine says
through `next_wakeup()` at which `now` it wants a `TimerFired`, or `None`.
"""

from __future__ import annotations


class Event:
    """Something that happened. Events are named by participles: `Granted`, `QueryAnswered`."""

    __slots__ = ()


class Command:
    """Something that the driver is to do. Commands are named by verbs: `SendQuery`, `Dial`."""

    __slots__ = ()
