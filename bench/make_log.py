# ruff: noqa: E501 (log lines are long)
"""Write a Postfix log as a busy relay writes it, the same one for the same seed.

    python bench/make_log.py [--lines 1000000] [--seed 1] [--stamps traditional|rfc3339] [--long-ids] [--start 2026-03-01] > mail.log

A mixture measured on real relays: submissions and incoming mail, one to five recipients, deliveries sent, deferred and
retried, bounced with a notification, sent through a content filter; connections that come to nothing, refusals, TLS and anvil
statistics, postscreen, and Dovecot and OpenDKIM writing to the same file. Messages overlap in time, as they do.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

HOST = "mx1"
LONG = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
PROVIDERS = [
    ("gmail.com", "gmail-smtp-in.l.google.com[142.250.102.27]:25"),
    ("outlook.com", "outlook-com.olc.protection.outlook.com[52.101.68.36]:25"),
    ("yahoo.com", "mta5.am0.yahoodns.net[67.195.228.94]:25"),
    ("gmx.de", "mx00.emig.gmx.net[212.227.15.9]:25"),
    ("orange.fr", "smtp-in.orange.fr[80.12.26.32]:25"),
    ("example.org", "mail.example.org[2001:db8:10::25]:25"),
    ("customer.example", "mx.customer.example[198.51.100.17]:25"),
]
DEFERRALS = [
    (
        "4.2.0",
        "host {relay} said: 450 4.2.0 <{to}>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/{domain}.html (in reply to RCPT TO command)",
    ),
    (
        "4.7.0",
        "host {relay} said: 421-4.7.0 [203.0.113.9      15] Our system has detected an unusual rate of 421-4.7.0 unsolicited mail originating from your IP address. 421 4.7.0 rate limited. {token} - gsmtp (in reply to end of DATA command)",
    ),
    ("4.4.1", "connect to {relay}: Connection timed out"),
    ("4.4.2", "lost connection with {relay} while receiving the initial server greeting"),
    ("4.3.0", "Host or domain name not found. Name service error for name={domain} type=MX: Host not found, try again"),
]
BOUNCES = [
    (
        "5.1.1",
        "host {relay} said: 550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the recipient's email address for typos or 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser {token} - gsmtp (in reply to RCPT TO command)",
    ),
    (
        "5.7.1",
        "host {relay} said: 554 5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org (in reply to RCPT TO command)",
    ),
    ("5.4.4", "Host or domain name not found. Name service error for name={domain} type=AAAA: Host not found"),
    ("5.2.2", "host {relay} said: 552 5.2.2 Mailbox full (in reply to RCPT TO command)"),
]
NAMES = [
    "anna",
    "bert",
    "carla",
    "dieter",
    "emma",
    "franz",
    "greta",
    "hans",
    "ines",
    "jan",
    "karin",
    "lars",
    "maria",
    "nils",
    "olga",
    "paul",
]


def seconds(value: float) -> str:
    """As Postfix writes a delay: two significant digits, at most, and no exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value >= 0.01 else "0"


class LogMaker:
    """Keeps messages in flight in a heap by time, and yields (time in seconds, line without its stamp)."""

    def __init__(self, seed: int, long_ids: bool, start_s: float) -> None:
        self.random = random.Random(seed)
        self.long_ids = long_ids
        self.now_s = start_s
        self.counter = 0
        self.heap: list[tuple[float, int, str]] = []
        self.sequence = 0

    def put(self, at_s: float, program: str, body: str) -> None:
        self.sequence += 1
        pid = self.random.randint(1000, 60000)
        heapq.heappush(self.heap, (at_s, self.sequence, f"{HOST} {program}[{pid}]: {body}\n"))

    def queue_id(self) -> str:
        r = self.random
        if self.long_ids:
            return "4" + "".join(r.choices(LONG, k=9)) + "z" + "".join(r.choices(LONG[:-1], k=4))
        return f"{r.randrange(0x100000):05X}{r.randrange(0x10000, 0x3FFFFFF):X}"

    def token(self) -> str:
        return f"{self.random.getrandbits(60):x}"

    def address(self) -> tuple[str, str, str]:
        domain, relay = self.random.choices(PROVIDERS, weights=[40, 20, 10, 8, 5, 10, 7])[0]
        return f"{self.random.choice(NAMES)}.{self.random.randrange(100000)}@{domain}", domain, relay

    def message(self, at_s: float) -> None:
        r = self.random
        queue_id = self.queue_id()
        sender = f"bounce-{r.randrange(1000000)}@news.shop.example" if r.random() < 0.6 else self.address()[0]
        kind = r.random()
        if kind < 0.55:
            client = f"app{r.randrange(9)}.shop.example[10.0.{r.randrange(9)}.{r.randrange(250)}]"
            self.put(at_s, "postfix/smtpd", f"connect from {client}")
            if r.random() < 0.5:
                self.put(
                    at_s,
                    "postfix/submission/smtpd",
                    f"{queue_id}: client={client}, sasl_method=PLAIN, sasl_username=shop",
                )
            else:
                self.put(at_s, "postfix/smtpd", f"{queue_id}: client={client}")
            self.put(
                at_s + 0.08,
                "postfix/smtpd",
                f"disconnect from {client} ehlo=1 auth=1 mail=1 rcpt=1 data=1 quit=1 commands=6",
            )
        elif kind < 0.9:
            client = f"mail{r.randrange(99)}.partner.example[198.51.100.{r.randrange(250)}]"
            self.put(at_s, "postfix/smtpd", f"connect from {client}")
            self.put(
                at_s,
                "postfix/smtpd",
                f"Anonymous TLS connection established from {client}: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)",
            )
            self.put(at_s + 0.02, "postfix/smtpd", f"{queue_id}: client={client}")
            self.put(
                at_s + 0.09,
                "postfix/smtpd",
                f"disconnect from {client} ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7",
            )
        else:
            self.put(at_s, "postfix/pickup", f"{queue_id}: uid=33 from=<www-data>")
        self.put(
            at_s + 0.03, "postfix/cleanup", f"{queue_id}: message-id=<{self.token()}.{r.randrange(9999)}@shop.example>"
        )
        if r.random() < 0.3:
            self.put(at_s + 0.04, "opendkim", f"{queue_id}: DKIM-Signature field added (s=mail, d=shop.example)")
        recipients = [self.address() for _ in range(r.choices([1, 2, 3, 5], weights=[88, 7, 3, 2])[0])]
        size = r.randrange(1200, 90000)
        active = f"{queue_id}: from=<{sender}>, size={size}, nrcpt={len(recipients)} (queue active)"
        self.put(at_s + 0.05, "postfix/qmgr", active)
        last_s = at_s
        for to, domain, relay in recipients:
            last_s = max(last_s, self.deliver(queue_id, at_s, to, domain, relay, active))
        self.put(last_s + 0.001, "postfix/qmgr", f"{queue_id}: removed")

    def deliver(self, queue_id: str, at_s: float, to: str, domain: str, relay: str, active: str) -> float:
        r = self.random
        done_s = at_s + 0.1 + r.expovariate(1.2)
        host = relay.rpartition(":")[0]
        fill = {"relay": host, "to": to, "domain": domain, "token": self.token()}
        fate = r.random()
        head = f"{queue_id}: to=<{to}>, "
        if r.random() < 0.1:
            head += f"orig_to=<{r.choice(NAMES)}@shop.example>, "
        while fate < 0.08:
            dsn, text = r.choice(DEFERRALS)
            where = relay if "said" in text else "none"
            self.put(
                done_s,
                "postfix/smtp",
                f"{head}relay={where}, {self.delays(done_s - at_s)}, dsn={dsn}, status=deferred ({text.format(**fill)})",
            )
            done_s += r.choice([300, 600, 1200])
            self.put(done_s, "postfix/qmgr", active)
            done_s += 1.0
            fate = r.random() + 0.04
        if fate > 0.97:
            dsn, text = r.choice(BOUNCES)
            where = relay if "said" in text else "none"
            self.put(
                done_s,
                "postfix/smtp",
                f"{head}relay={where}, {self.delays(done_s - at_s)}, dsn={dsn}, status=bounced ({text.format(**fill)})",
            )
            notice = self.queue_id()
            self.put(done_s + 0.01, "postfix/cleanup", f"{notice}: message-id=<{self.token()}@{HOST}>")
            self.put(done_s + 0.02, "postfix/bounce", f"{queue_id}: sender non-delivery notification: {notice}")
            self.put(done_s + 0.03, "postfix/qmgr", f"{notice}: from=<>, size=2412, nrcpt=1 (queue active)")
            self.put(
                done_s + 0.2,
                "postfix/local",
                f"{notice}: to=<bounce@shop.example>, relay=local, delay=0.1, delays=0.05/0/0/0.05, dsn=2.0.0, status=sent (delivered to maildir)",
            )
            self.put(done_s + 0.21, "postfix/qmgr", f"{notice}: removed")
            return done_s + 0.02
        if fate > 0.87:
            reply = f"250 2.0.0 <{to}> {self.token()} Saved"
            self.put(
                done_s,
                "postfix/lmtp",
                f"{head}relay={HOST}.shop.example[private/dovecot-lmtp], {self.delays(done_s - at_s)}, dsn=2.0.0, status=sent ({reply})",
            )
            self.put(
                done_s,
                "dovecot",
                f"lmtp({to})<{r.randrange(9999)}><{self.token()}>: sieve: msgid=<{self.token()}@x>: stored mail into mailbox 'INBOX'",
            )
            return done_s
        if r.random() < 0.5:
            self.put(
                done_s - 0.05,
                "postfix/smtp",
                f"Trusted TLS connection established to {relay}: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)",
            )
        service = "postfix/relay/smtp" if r.random() < 0.1 else "postfix/smtp"
        reply = (
            f"250 2.0.0 OK  {int(done_s)} {self.token()} - gsmtp"
            if "google" in relay
            else f"250 2.0.0 Ok: queued as {self.queue_id()}"
        )
        self.put(
            done_s, service, f"{head}relay={relay}, {self.delays(done_s - at_s)}, dsn=2.0.0, status=sent ({reply})"
        )
        return done_s

    def delays(self, delay_s: float) -> str:
        r = self.random
        a, b, c = r.random() / 9, r.random() / 90, r.random() / 2
        d = max(delay_s - c, 0.01)
        return f"delay={seconds(max(delay_s, 0.1))}, delays={seconds(a)}/{seconds(b)}/{seconds(c)}/{seconds(d)}"

    def noise(self, at_s: float) -> None:
        r = self.random
        ip = f"{r.randrange(1, 223)}.{r.randrange(255)}.{r.randrange(255)}.{r.randrange(255)}"
        kind = r.random()
        if kind < 0.25:
            self.put(at_s, "postfix/postscreen", f"CONNECT from [{ip}]:{r.randrange(1024, 65000)} to [203.0.113.9]:25")
            self.put(at_s + 0.1, "postfix/postscreen", f"PREGREET 11 after 0.1 from [{ip}]:41234: EHLO User\\r\\n")
            self.put(at_s + 0.2, "postfix/postscreen", f"DISCONNECT [{ip}]:41234")
        elif kind < 0.45:
            self.put(at_s, "postfix/smtpd", f"connect from unknown[{ip}]")
            self.put(
                at_s + 0.3, "postfix/smtpd", f"warning: unknown[{ip}]: SASL LOGIN authentication failed: UGFzc3dvcmQ6"
            )
            self.put(at_s + 0.4, "postfix/smtpd", f"lost connection after AUTH from unknown[{ip}]")
            self.put(at_s + 0.4, "postfix/smtpd", f"disconnect from unknown[{ip}] ehlo=1 auth=0/1 commands=1/2")
        elif kind < 0.65:
            to = f"{r.choice(NAMES)}@shop.example"
            self.put(at_s, "postfix/smtpd", f"connect from unknown[{ip}]")
            self.put(
                at_s + 0.3,
                "postfix/smtpd",
                f"NOQUEUE: reject: RCPT from unknown[{ip}]: 554 5.7.1 Service unavailable; Client host [{ip}] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/{ip}; from=<spam@{self.token()}.example> to=<{to}> proto=ESMTP helo=<[{ip}]>",
            )
            self.put(
                at_s + 0.4, "postfix/smtpd", f"disconnect from unknown[{ip}] ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"
            )
        elif kind < 0.75:
            self.put(at_s, "postfix/anvil", f"statistics: max connection rate 1/60s for (smtp:{ip}) at Mar  1 00:00:00")
            self.put(at_s, "postfix/anvil", f"statistics: max connection count 1 for (smtp:{ip}) at Mar  1 00:00:00")
        elif kind < 0.95:
            self.put(
                at_s,
                "dovecot",
                f"imap-login: Login: user=<{r.choice(NAMES)}>, method=PLAIN, rip={ip}, lip=203.0.113.9, mpid={r.randrange(9999)}, TLS, session=<{self.token()}>",
            )
            self.put(
                at_s + 2,
                "dovecot",
                f"imap({r.choice(NAMES)})<1><{self.token()}>: Disconnected: Logged out in=120 out=900 deleted=0 expunged=0",
            )
        else:
            self.put(at_s, "postfix/smtp", f"connect to mx.gone.example[{ip}]:25: Connection refused")

    def lines(self) -> Iterator[tuple[float, str]]:
        r = self.random
        while True:
            self.now_s += r.expovariate(12)
            self.message(self.now_s)
            if r.random() < 0.35:
                self.noise(self.now_s)
            while self.heap and self.heap[0][0] <= self.now_s:
                at_s, _, line = heapq.heappop(self.heap)
                yield at_s, line


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lines", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--stamps", choices=("traditional", "rfc3339"), default="traditional")
    arguments.add_argument("--long-ids", action="store_true")
    arguments.add_argument("--start", default="2026-03-01", help="the first line's day, UTC")
    options = arguments.parse_args()
    start_s = datetime.fromisoformat(options.start).replace(tzinfo=UTC).timestamp()
    maker = LogMaker(options.seed, options.long_ids, start_s)
    out = sys.stdout
    second, stamp = -1, ""
    for count, (at_s, line) in enumerate(maker.lines()):
        if count >= options.lines:
            break
        if int(at_s) != second:
            second = int(at_s)
            moment = datetime.fromtimestamp(second, tz=UTC)
            stamp = (
                f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}"
                if options.stamps == "traditional"
                else f"{moment:%Y-%m-%dT%H:%M:%S}"
            )
        if options.stamps == "traditional":
            out.write(f"{stamp} {line}")
        else:
            out.write(f"{stamp}.{int(at_s % 1 * 1e6):06d}+00:00 {line}")


if __name__ == "__main__":
    main()
