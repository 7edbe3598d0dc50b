"""What is tracked is decided by the sender's domain *and* by where the mail came from; inbound mail never is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parseaddr

from postwake.domain_names import spellings
from postwake.events import Direction
from postwake.networks import Networks

REASONS = {
    "inbound": "It came from outside: neither authenticated, nor from mta.internal_networks, nor submitted here.",
    "null-sender": "Its envelope sender is empty: a bounce or a notification.",
    "sender-not-configured": "Neither its envelope sender's nor its From field's domain is in tracking.sender_domains.",
    "rewrite-timeout": "Rewriting took longer than milter.rewrite_timeout_s.",
    "busy": "With it there would have been more than milter.max_held_bytes of mail on its way at once.",
    "body-not-offered": "The MTA does not let the milter replace the body, or change header fields.",
    "error": "Postwake failed on it and let it through; the log has the queue ID and the error.",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, as the MTA said."""

    client_ip: str = ""
    """Empty for sendmail(1) where the MTA names no address."""
    sasl_username: str = ""


def direction_of(origin: Origin, internal: Networks) -> Direction:
    """Return which way mail of *origin* goes."""
    if origin.sasl_username or not origin.client_ip or origin.client_ip in internal:
        return Direction.OUTBOUND
    return Direction.INBOUND


def domain_of(address: str) -> str:
    """Return the domain of a bare *address*, lower case; empty if it has none."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def tracked_domain(sender: str, header_from: str, configured: Iterable[str]) -> str | None:
    """Return the configured domain that a message counts under, or None.

    *sender* is the envelope sender without brackets, *header_from* the From field, its encoded words as they are. The
    envelope goes first; a bounce-handling service's envelope domain need not be the one people see, so the From field
    may say it too. An international domain may be written in ASCII here and in its own letters there.
    """
    domains = frozenset(configured)
    return _among(domains, sender) or _among(domains, _first_address(header_from))


def _first_address(field: str) -> str:
    try:
        return parseaddr(field)[1]
    except RecursionError:  # thousands of comments, one in the other
        return ""


def _among(domains: frozenset[str], address: str) -> str | None:
    """Return the domain of *address* as *domains* has it."""
    return next((domain for domain in spellings(domain_of(address)) if domain in domains), None)
