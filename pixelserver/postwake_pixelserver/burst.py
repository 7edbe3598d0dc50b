"""What the hits of one message say together: too early for a person, or too many at once.

One request can borrow any browser's name; a gateway that sweeps a mail cannot hide that it followed ten links in
one second. And only a tracker beside the MTA knows the moment the remote server said 250.

The rules, each on the hits that one recipient's token brought (or on a shared token's, per source):

- ``before-delivery``: the hit is older than the 250. Nobody had the mail yet: it was scanned during the SMTP
  dialogue or in the queue in front of the mailbox.
- ``at-delivery``: an open within :data:`OPEN_AT_DELIVERY_US`, a click within :data:`CLICK_AT_DELIVERY_US` of it.
  The windows are short on purpose: people do wait for a sign-in code, and a real sweep begins a median of 43 s after
  the mail was sent, so a long window would catch people and miss machines.
- ``burst``: as many different links from one source as :data:`BURSTS` says, faster than a hand. Measured sweeps
  fetch nine or ten links within one second (https://github.com/putyourlightson/craft-campaign/issues/546: 836
  bursts, 96 % of them whole mails; a threshold of 10 s after delivery would have caught 0.5 %).
  Of a shared token it has to be every link: in one office many people read the same mail, and click at once.
- ``sweep``: every link of the message, each once, within :data:`SWEEP_US`, and more of them (:data:`SWEEP_LINKS`) or
  from more networks (:data:`SWEEP_SOURCES`) than one reader's: gateways spread one sweep over several addresses, while
  a person may well open a mail's three links in tabs. Only for tokens of a single recipient, whose links nobody else
  has.

A burst relabels what belongs to it: clicks from :data:`MARGIN_US` before to after it, from its sources or under its
agent's name, and the opens since delivery that came from its sources *and* under its agent's name (the same
measurement: the scanner's own pixel fetch comes a median of 33 s before its clicks).

- ``scanner-open``: the same for a single click that is certainly a scanner's (by its network, its name or its time).
- ``near-burst``: an open that shares only the one or the other. It may be the scanner's, which has many addresses and
  names; it may be the reader's, whose office the gateway stands in or whose browser's name it borrowed. Unknown.

It never touches what a person's network did later. Machines that act for a reader (:data:`FOR_READERS`: the browser
that prefetches, the chat that draws previews) make no burst: they fetch many links at once where a person is.

Verdicts only ever move towards *machine*, and a hit already so judged is left alone, so judging again changes nothing.
The store keeps the verdict it replaces.

Pure: hits and times in, relabelings out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postwake.events import EventType, Who
from postwake_pixelserver.peer import source

SECOND_US = 1_000_000
OPEN_AT_DELIVERY_US = 2 * SECOND_US
"""A notification, a tap and a rendered mail take longer than that after the 250."""
CLICK_AT_DELIVERY_US = 4 * SECOND_US
"""The same, and reading far enough to choose a link."""
BURSTS = ((3, SECOND_US), (4, 2 * SECOND_US))
"""So many different links in such a time: faster than anybody opens tabs. A double click is one link twice."""
PAIR_US = SECOND_US // 2
"""With only two links in the mail, both within half a second from one source are a burst."""
SWEEP_US = 15 * SECOND_US
SWEEP_LINKS = 5
"""So many links, every one of them once in that time, is no way to read a mail, even from one place."""
SWEEP_SOURCES = 3
"""Or fewer links from so many networks; two are not enough: browsers go back and forth between IPv4 and IPv6."""
MARGIN_US = 5 * SECOND_US
OPEN_REACH_US = 10 * 60 * SECOND_US
"""How far before a burst its pixel fetch may lie."""
SCANNERS = frozenset({"security-gateway", "outlook-com-preview", "before-delivery", "at-delivery", "burst", "sweep"})
"""Reasons (and any ``network-…``) that make a click a scanner's, and not just some program's."""
FOR_READERS = frozenset({"prefetch", "link-preview", "office-link-probe"})
"""Reasons of hits by machines that act for a person who is there: they are no evidence against that person's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One stored open or click, as judging needs it."""

    event: int
    """The store's row."""
    at_us: int
    type: EventType
    link: int
    who: Who
    client: str
    user_agent: str
    reason: str = ""

    @property
    def source(self) -> str:
        """Its network, or its pseudonym; the agent where privacy left nothing else."""
        return source(self.client) if self.client else self.user_agent

    @property
    def for_reader(self) -> bool:
        """Whether it is by a machine that acts for a person who is there."""
        return self.who is Who.MACHINE and self.reason in FOR_READERS


@dataclass(frozen=True, slots=True)
class Relabeling:
    """A stored hit turns out to be a machine's, or not certainly a person's."""

    event: int
    who: Who
    reason: str


def judge(hits: Sequence[Seen], *, delivered_at_us: int | None, links: int, shared: bool) -> list[Relabeling]:
    """Return the relabelings that *hits*, all stored opens and clicks of one message and recipient, call for.

    *delivered_at_us* is when the remote server took the mail for that recipient (for *shared* tokens, for the first
    of them), None while it has not or is not known. *links* is how many links of the message are tracked, 0 if that
    is not known.
    """
    verdicts: dict[int, tuple[Who, str]] = {}
    ordered = sorted(hits, key=lambda hit: (hit.at_us, hit.event))
    if delivered_at_us is not None:
        for hit in ordered:
            reason = _early(hit, delivered_at_us, shared=shared)
            if reason:
                verdicts[hit.event] = Who.MACHINE, reason
    clicks = [hit for hit in ordered if hit.type is EventType.CLICKED and not hit.for_reader]
    doubtful: dict[int, tuple[Who, str]] = {}
    for reason, members in _bursts(clicks, links, shared=shared):
        for hit, certain in _belonging(ordered, members, delivered_at_us):
            if certain:
                verdicts.setdefault(hit.event, (Who.MACHINE, reason))
            else:
                doubtful[hit.event] = Who.UNKNOWN, "near-burst"
    for hit in _scanner_opens(ordered, verdicts):
        verdicts.setdefault(hit.event, (Who.MACHINE, "scanner-open"))
    verdicts = {**doubtful, **verdicts}
    return [
        Relabeling(hit.event, *verdicts[hit.event])
        for hit in ordered
        if hit.event in verdicts and _towards_machine(hit.who, verdicts[hit.event][0])
    ]


def _towards_machine(before: Who, after: Who) -> bool:
    return before is Who.HUMAN or (before is Who.UNKNOWN and after is Who.MACHINE)


def _early(hit: Seen, delivered_at_us: int, *, shared: bool) -> str:
    if hit.at_us < delivered_at_us:
        return "before-delivery"
    window_us = OPEN_AT_DELIVERY_US if hit.type is EventType.OPENED else CLICK_AT_DELIVERY_US
    # A shared token's other recipients were served before or after the first: only "before all" is certain.
    return "at-delivery" if not shared and hit.at_us < delivered_at_us + window_us else ""


def _bursts(clicks: Sequence[Seen], links: int, *, shared: bool) -> list[tuple[str, list[Seen]]]:
    """Return the bursts among *clicks* (in time order), each with the clicks that make it one."""
    found: list[tuple[str, list[Seen]]] = []
    if shared and not links:
        return found  # every link, of nobody knows how many
    by_source: dict[str, list[Seen]] = {}
    for click in clicks:
        if click.source:
            by_source.setdefault(click.source, []).append(click)
    for group in by_source.values():
        for different, span_us in BURSTS:
            wanted = max(different, links) if shared else different
            found += [("burst", members) for members in _windows(group, span_us, wanted)]
        if links == 2:
            found += [("burst", members) for members in _windows(group, PAIR_US, 2)]
    if not shared and links >= SWEEP_SOURCES:
        for members in _windows(clicks, SWEEP_US, links):
            # Each once: a person who tries everything goes back to something.
            places = len({hit.source for hit in members})
            if len(members) == links and (links >= SWEEP_LINKS or places >= SWEEP_SOURCES):
                found.append(("sweep", members))
    return found


def _windows(clicks: Sequence[Seen], span_us: int, different: int) -> list[list[Seen]]:
    """Return the runs of *clicks* within *span_us* that lead to at least *different* links, overlapping ones merged."""
    runs: list[tuple[int, int]] = []
    counts: dict[int, int] = {}
    first = 0
    for last, click in enumerate(clicks):
        counts[click.link] = counts.get(click.link, 0) + 1
        while click.at_us - clicks[first].at_us > span_us:
            gone = clicks[first].link
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
            first += 1
        if len(counts) >= different:
            if runs and first <= runs[-1][1]:
                runs[-1] = (runs[-1][0], last)
            else:
                runs.append((first, last))
    return [list(clicks[start : end + 1]) for start, end in runs]


def _scanner_opens(ordered: Sequence[Seen], verdicts: Mapping[int, tuple[Who, str]]) -> list[Seen]:
    """Return the opens around a click that is certainly a scanner's, from its address and under its name."""
    clicks: dict[tuple[str, str], list[int]] = {}
    for hit in ordered:
        who, reason = verdicts.get(hit.event, (hit.who, hit.reason))
        scanner = who is Who.MACHINE and (reason in SCANNERS or reason.startswith("network-"))
        if hit.type is EventType.CLICKED and scanner and hit.source and hit.user_agent:
            clicks.setdefault((hit.source, hit.user_agent), []).append(hit.at_us)
    found = []
    for hit in ordered:
        times_us = clicks.get((hit.source, hit.user_agent), [])
        following = bisect_left(times_us, hit.at_us - MARGIN_US)
        near = following < len(times_us) and times_us[following] <= hit.at_us + OPEN_REACH_US
        if hit.type is EventType.OPENED and near:
            found.append(hit)
    return found


def _belonging(
    ordered: Sequence[Seen], members: Sequence[Seen], delivered_at_us: int | None
) -> list[tuple[Seen, bool]]:
    """Return every hit that is part of the burst that *members* make, and whether that is certain."""
    sources = {hit.source for hit in members}
    agents = {hit.user_agent for hit in members if hit.user_agent}
    own = {hit.event for hit in members}
    begin_us, end_us = members[0].at_us, members[-1].at_us
    reach_us = begin_us - OPEN_REACH_US
    if delivered_at_us is not None:
        reach_us = max(reach_us, delivered_at_us)
    part = []
    for hit in ordered:
        if hit.event in own:
            part.append((hit, True))
            continue
        if hit.for_reader:
            continue
        same_source = hit.source in sources
        # One that changes its name with each request has none that could tell it from a reader.
        same_agent = hit.user_agent in agents or (same_source and (len(agents) != 1 or not hit.user_agent))
        if hit.type is EventType.OPENED:
            until_us = end_us + MARGIN_US if same_source else end_us
            if reach_us <= hit.at_us <= until_us and (same_source or same_agent):
                part.append((hit, same_source and same_agent))
        elif begin_us - MARGIN_US <= hit.at_us <= end_us + MARGIN_US and (same_source or same_agent):
            part.append((hit, True))
    return part
