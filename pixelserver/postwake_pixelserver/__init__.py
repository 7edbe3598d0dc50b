"""The public side of Postwake: the open pixel, the redirect, the unsubscribe page, and who it was.

``who``, ``burst``, ``privacy``, ``destination``, ``denied``, ``peer`` and ``limits`` are pure: requests, times and
keys go in, verdicts come out. ``app`` is the Flask application around them, ``recorder`` puts its hits into the
store or the spool, ``daemon`` serves it under granian.
"""

from __future__ import annotations
