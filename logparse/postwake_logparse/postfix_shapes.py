"""The names of Postfix's lines that tell no message's fate, so that every line of a log is accounted for."""

from __future__ import annotations

import re

from postwake_logparse.postfix_rare import QUEUE_ID

# What the hot expression recognises by its first words. Order matters where one is a prefix of another.
NOISE = {
    "connect from ": "connect",
    "disconnect from ": "disconnect",
    "lost connection after ": "connection lost",
    "timeout after ": "timeout",
    "warning: ": "warning",
    "statistics: ": "statistics",
    "Anonymous TLS connection ": "tls",
    "Untrusted TLS connection ": "tls",
    "Trusted TLS connection ": "tls",
    "Verified TLS connection ": "tls",
    "SSL_accept ": "tls",
    "SSL_connect ": "tls",
    "CONNECT from ": "postscreen connect",
    "PASS NEW ": "postscreen pass",
    "PASS OLD ": "postscreen pass",
    "DISCONNECT ": "postscreen disconnect",
    "PREGREET ": "postscreen pregreet",
    "DNSBL rank ": "postscreen dnsbl",
    "HANGUP after ": "postscreen hangup",
    "COMMAND ": "postscreen protocol",
    "addr ": "dnsblog",
    "connect to ": "host connection failed",
    "improper command pipelining ": "smtpd protocol",
}

# Services of Postfix: what stands last in the tag. A tag whose last part is one of these is Postfix's, whatever its
# syslog_name.
SERVICES = frozenset(
    [
        "anvil",
        "bounce",
        "cleanup",
        "discard",
        "dnsblog",
        "error",
        "flush",
        "lmtp",
        "local",
        "master",
        "nqmgr",
        "oqmgr",
        "pickup",
        "pipe",
        "post-install",
        "postalias",
        "postcat",
        "postdrop",
        "postfix",
        "postfix-script",
        "postlock",
        "postlog",
        "postlogd",
        "postmap",
        "postmulti",
        "postqueue",
        "postscreen",
        "postsuper",
        "posttls-finger",
        "proxymap",
        "proxywrite",
        "qmgr",
        "qmqpd",
        "relay",
        "retry",
        "scache",
        "sendmail",
        "showq",
        "smtp",
        "smtpd",
        "smtps",
        "spawn",
        "submission",
        "tlsmgr",
        "tlsproxy",
        "trace",
        "trivial-rewrite",
        "verify",
        "virtual",
    ]
)
# Those that answer for themselves and for other software (policy servers, content filters): their text is anyone's.
_FOREIGN_SERVICES = ("policy", "postfwd", "amavis", "spawn", "postgrey", "policyd")

_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("problem", r"(?:fatal|error|panic|info): .*"),
        (
            "remark on a message",
            rf"{QUEUE_ID}: (?:(?:warning|fatal|error|info|panic): |enabling PIX |skipped, still being delivered|"
            rf"TLS |Cannot start TLS|Server certificate |breaking line|(?:force-)?expired$|save |copying |"
            r"undeliverable ).*",
        ),
        ("remark on a message", r"NOQUEUE: (?:(?:warning|fatal|error|panic): |client=|unable to ).*|client=.*"),
        ("queue status without recipient", rf"{QUEUE_ID}: status=(?:deferred|bounced).*"),
        ("postscreen pass", r"(?:WHITELISTED|ALLOWLISTED|WHITELIST VETO|ALLOWLIST VETO) .*"),
        ("postscreen block", r"(?:BLACKLISTED|DENYLISTED) .*"),
        (
            "postscreen protocol",
            r"(?:NON-SMTP COMMAND|BARE NEWLINE|BARE LF|UNKNOWN COMMAND|CONNECTED|DATA|PIPELINING) .*",
        ),
        (
            "operator summary",
            r"(?:Deleted|Requeued|Placed on hold|Released from hold|Expired|Force-expired|"
            r"Renamed to match inode number): [0-9]+ messages?.*",
        ),
        (
            "smtpd protocol",
            r"(?:bare <LF>|too many errors|discarding EHLO keywords|discarding|non-SMTP command|sent non-SMTP|"
            r"concurrency limit |refused |host \\S+ (?!said)|proxy-accept: ).*",
        ),
        ("table", r"(?:table |cache |database ).*"),
        (
            "tls",
            r"(?:certificate |[a-zA-Z]\S* certificate |setting up TLS |initializing the |save session |SSL|TLS|"
            r"looking for (?:session|plugins) |subject_CN=|issuer=|Peer |Unverified|Host offered STARTTLS|"
            r"Host certificate |read from |"
            r"write to |cannot load |self-signed ).*",
        ),
        (
            "life of the daemon",
            r"(?:daemon started |terminating on signal|stopping the |starting the |refreshing the |reload |"
            r"idle timeout |the Postfix mail system|Postfix is |postfix/|To disable |See http|using backwards-|"
            r"new setting|not owned by |symlink leaves |group or other ).*",
        ),
    )
)


def shape_of(body: str, service: str) -> str | None:
    """The shape's name of a body that made no record, or None if nobody knows it."""
    for words, name in NOISE.items():
        if body.startswith(words):
            return name
    for name, pattern in _SHAPES:
        if pattern.fullmatch(body) is not None:
            return name
    if service.startswith(_FOREIGN_SERVICES) or (service and service not in SERVICES):
        return "helper program"
    return None
