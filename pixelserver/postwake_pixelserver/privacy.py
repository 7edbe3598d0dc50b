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

The key of the hashes is derived from the newest signing key and the UTC date, and is kept nowhere: hits of one day
can be grouped into sources, those of two days cannot be linked, and once the signing key is gone nothing can be
recomputed. An address space is small, so a hash whose key can still be derived is a pseudonym, not anonymity
(Article 29 Working Party, Opinion 05/2014, section 4): hence the daily key, and retention as for addresses.

An unsubscription is a request to the sender, not an observation: it is recorded in every mode with its recipient,
without address and agent wherever the mode is not ``full``.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from functools import lru_cache

from postwake.events import EventType, Hit
from postwake.tokens import Privacy
from postwake_pixelserver.peer import source

_DAY_US = 86_400_000_000
_HASH_BYTES = 8
"""64 bits: no collisions to speak of among one day's readers."""
MAX_AGENT_CHARS = 400
"""Longer agents are cut: real ones are under 300 characters."""


def apply(hit: Hit, secret: bytes) -> Hit | None:
    """Return what may be stored of *hit* under its own privacy mode, or None if nothing may.

    *secret* is :meth:`postwake.tokens.KeyRing.secret`.
    """
    if hit.privacy is Privacy.FULL:
        if len(hit.user_agent) <= MAX_AGENT_CHARS:
            return hit
        return replace(hit, user_agent=hit.user_agent[:MAX_AGENT_CHARS])
    request = hit.type in (EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED)
    if hit.privacy is Privacy.PSEUDONYMOUS:
        if request:
            return replace(hit, client="", user_agent="")
        key = day_key(secret, hit.at_us // _DAY_US)
        return replace(hit, client=pseudonym(key, source(hit.client)), user_agent=pseudonym(key, hit.user_agent))
    if request:
        return replace(hit, client="", user_agent="")
    if hit.privacy is Privacy.ANONYMOUS:
        return replace(hit, client="", user_agent="", recipient=0)
    return None


@lru_cache(maxsize=4)
def day_key(secret: bytes, day: int) -> bytes:
    """Return the key of the hashes of one UTC *day* (days since 1970)."""
    return hmac.digest(secret, b"postwake pseudonyms of day %d" % day, "sha256")


def pseudonym(key: bytes, text: str) -> str:
    """Return the keyed hash of *text* as ``~`` and 16 hexadecimal digits; nothing stays nothing."""
    if not text:
        return ""
    return "~" + hmac.digest(key, text.encode("utf-8", "replace"), "sha256")[:_HASH_BYTES].hex()
