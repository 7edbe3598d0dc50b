"""What is kept of a reader, after the verdict is in.

The verdict (``who``) needs the address and the agent; what is stored afterwards depends on the mode that the token
carries, fixed when the mail was sent:

=============  ==========================  =================================  ==============
mode           client                      agent                              recipient
=============  ==========================  =================================  ==============
full           as it is                    as it is                           kept
pseudonymous   keyed hash of its network   keyed hash                         kept
anonymous      nothing                     nothing                            dropped (0)
off            nothing is recorded         nothing is recorded                —
=============  ==========================  =================================  ==============

The key of the hashes is the day's own (:mod:`postwake_pixelserver.day_key`): hits of one UTC day can be grouped into
sources, those of two days cannot be linked, and when the day is over nothing can be recomputed.

An unsubscription is a request to the sender, not an observation: it is recorded in every mode with its recipient,
without address and agent wherever the mode is not ``full``.
"""

from __future__ import annotations

import hmac
from dataclasses import replace

from postwake.events import EventType, Hit
from postwake.tokens import Privacy
from postwake_pixelserver.peer import source

_HASH_BYTES = 8
"""64 bits: no collisions to speak of among one day's readers."""
MAX_AGENT_CHARS = 400
"""Longer agents are cut: real ones are under 300 characters."""


def apply(hit: Hit, key: bytes) -> Hit | None:
    """Return what may be stored of *hit* under its own privacy mode, or None if nothing may.

    *key* is that of the hit's day, for mode pseudonymous.
    """
    if hit.privacy is Privacy.FULL:
        if len(hit.user_agent) <= MAX_AGENT_CHARS:
            return hit
        return replace(hit, user_agent=hit.user_agent[:MAX_AGENT_CHARS])
    request = hit.type in (EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED)
    if hit.privacy is Privacy.PSEUDONYMOUS:
        if request:
            return replace(hit, client="", user_agent="")
        return replace(hit, client=pseudonym(key, source(hit.client)), user_agent=pseudonym(key, hit.user_agent))
    if request:
        return replace(hit, client="", user_agent="")
    if hit.privacy is Privacy.ANONYMOUS:
        return replace(hit, client="", user_agent="", recipient=0)
    return None


def pseudonym(key: bytes, text: str) -> str:
    """Return the keyed hash of *text* as ``~`` and 16 hexadecimal digits; nothing stays nothing."""
    if not text:
        return ""
    return "~" + hmac.digest(key, text.encode("utf-8", "replace"), "sha256")[:_HASH_BYTES].hex()
