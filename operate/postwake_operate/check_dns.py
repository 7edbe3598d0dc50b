"""Checks of the sender domains' records (SPF, DKIM, DMARC) and of blocklists. Needs dnspython: the extra ``dns``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from postwake.config import Config
from postwake_operate.check_web import is_offline
from postwake_operate.finding import Finding, fail, ok, skip, warn
from postwake_operate.postfix import Postfix

PATIENCE_S = 4.0
BLOCKLISTS = ("zen.spamhaus.org", "bl.spamcop.net", "b.barracudacentral.org")
Lookup = Callable[[str, str], list[str]]
"""Name and type to records as text; an empty list if there are none; OSError if nobody answers."""


def check(config: Config, postfix: Postfix | None, selectors: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what is found, or why it was not looked at."""
    lookup = resolver()
    if lookup is None:
        yield skip("dns", "dnspython is not installed: pip install 'postwake[dns]'")
        return
    if is_offline():
        yield skip("dns", "this machine is offline")
        return
    yield from check_with(
        lookup, config.tracking.sender_domains, postfix.setting("myhostname") if postfix else "", selectors
    )


def resolver() -> Lookup | None:
    """Return what asks the system's name servers, or None without dnspython."""
    try:
        import dns.exception
        import dns.resolver
    except ImportError:
        return None

    def ask(name: str, kind: str) -> list[str]:
        try:
            answer = dns.resolver.resolve(name, kind, lifetime=PATIENCE_S, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise OSError(f"{name}: {type(error).__name__}") from None
        if kind == "TXT":
            return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
        return [record.to_text() for record in answer]

    return ask


def check_with(lookup: Lookup, domains: list[str], host: str, selectors: tuple[str, ...]) -> Iterator[Finding]:
    """Yield the findings that *lookup*'s answers make."""
    try:
        for domain in domains:
            yield _spf(lookup, domain)
            yield _dmarc(lookup, domain)
            for selector in selectors:
                yield _dkim(lookup, domain, selector)
        if domains and not selectors:
            yield skip("dkim", "--dkim-selector names the selector that you sign with")
        if host:
            yield from _blocklists(lookup, host)
    except OSError as error:
        yield skip("dns", f"no name server answers: {error}")


def _spf(lookup: Lookup, domain: str) -> Finding:
    records = [text for text in lookup(domain, "TXT") if text.lower().split(" ")[0] == "v=spf1"]
    if not records:
        return warn("spf", f"{domain}: no SPF record", f'TXT at {domain}, such as "v=spf1 mx -all" (RFC 7208)')
    if len(records) > 1:
        return fail(
            "spf", f"{domain}: {len(records)} SPF records: receivers use none of them", "make them one (RFC 7208 §4.5)"
        )
    if records[0].lower().split()[-1] in ("+all", "all"):
        return fail("spf", f"{domain}: {records[0]}: everybody may send in its name", "end it in -all or ~all")
    return ok("spf", f"{domain}: {records[0]}")


def _dmarc(lookup: Lookup, domain: str) -> Finding:
    labels = domain.split(".")
    # A subdomain may be covered by its parent's record (RFC 7489 §6.6.3).
    for start in range(max(1, len(labels) - 1)):
        parent = ".".join(labels[start:])
        records = [text for text in lookup(f"_dmarc.{parent}", "TXT") if text.lower().startswith("v=dmarc1")]
        if records:
            return ok("dmarc", f"{parent}: {records[0]}")
    advice = f'TXT at _dmarc.{domain}, to begin with "v=DMARC1; p=none; rua=mailto:…" (bulk senders need one)'
    return warn("dmarc", f"{domain}: no DMARC record", advice)


def _dkim(lookup: Lookup, domain: str, selector: str) -> Finding:
    name = f"{selector}._domainkey.{domain}"
    records = [text for text in lookup(name, "TXT") if "p=" in text]
    if not records:
        return fail("dkim", f"{name}: no key", "publish the signer's key there (opendkim-genkey writes the record)")
    tags = dict(part.strip().partition("=")[::2] for part in records[0].split(";") if part.strip())
    if not tags.get("p", "").strip():
        return fail("dkim", f"{name}: the key was withdrawn (p=)", "sign with another selector, or publish the key")
    return ok("dkim", f"{name}: there")


def _blocklists(lookup: Lookup, host: str) -> Iterator[Finding]:
    for text in lookup(host, "A"):
        address = ipaddress.ip_address(text)
        if not address.is_global:
            continue
        labels = ".".join(reversed(text.split(".")))
        for zone in BLOCKLISTS:
            answers = lookup(f"{labels}.{zone}", "A")
            listed = [item for item in answers if item.startswith("127.") and not item.startswith("127.255.255.")]
            if listed:
                advice = f"https://check.spamhaus.org/ and the like say why; listed as {', '.join(listed)}"
                yield fail("blocklists", f"{text} ({host}) is on {zone}", advice)
            elif answers:
                # 127.255.255.x: the list refuses to answer whoever asks through a public name server.
                yield skip("blocklists", f"{zone} does not answer this machine's name server")
            else:
                yield ok("blocklists", f"{text} ({host}) is not on {zone}")
