"""What the hits of one message say together: too early for a person, or too many at once.

One request can borrow any browser's name; a gateway that sweeps a mail cannot hide that it followed ten links in
one second. And only a tracker beside the MTA knows the moment the remote server said 250.

The rules, each on the hits that one recipient's token brought (or on a shared token's, per source):

- ``before-delivery``: the hit is older than the 250. Nobody had the mail yet: it was scanned during the SMTP
  dialogue or in the queue in front of the mailbox.
- ``at-delivery``: an open within :data:`OPEN_AT_DELIVERY_US`, a click within :data:`CLICK_AT_DELIVERY_US` of it.
  The windows are short on purpose: people do wait for a sign-in code, and a real sweep begins a median of 43 s after
  the mail was sent, so a long window would catch people and miss machines.
- ``burst``: at least :data:`BURST_LINKS` different links from one source within :data:`BURST_US`. Measured sweeps
  fetch nine or ten links within one second (https://github.com/putyourlightson/craft-campaign/issues/546: 836
  bursts, 96 % of them whole mails; a threshold of 10 s after delivery would have caught 0.5 %).
- ``sweep``: every link of the message, each once, within :data:`SWEEP_US`, wherever from: gateways spread one sweep
  over several addresses. Only for tokens of a single recipient, whose links nobody else has.

A burst relabels what belongs to it: clicks from :data:`MARGIN_US` before to after it from its sources, and the opens
since delivery that came from its sources or under its agent's name (the same measurement: the scanner's own pixel
fetch comes a median of 33 s before its clicks). It never touches what a person's network did later.

Verdicts only ever move to *machine*, and a hit already so judged is left alone, so judging again changes nothing.
The store keeps the verdict it replaces.

Pure: hits and times in, relabelings out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postwake.events import EventType, Who
from postwake_pixelserver.peer import source

SECOND_US = 1_000_000
OPEN_AT_DELIVERY_US = 2 * SECOND_US
"""A notification, a tap and a rendered mail take longer than that after the 250."""
CLICK_AT_DELIVERY_US = 4 * SECOND_US
"""The same, and reading far enough to choose a link."""
BURST_LINKS = 3
BURST_US = 2 * SECOND_US
"""Nobody opens three different links of a mail within two seconds; a double click is one link twice."""
PAIR_US = SECOND_US // 2
"""With only two links in the mail, both within half a second from one source are a burst."""
SWEEP_US = 15 * SECOND_US
MARGIN_US = 5 * SECOND_US
OPEN_REACH_US = 10 * 60 * SECOND_US
"""How far before a burst its pixel fetch may lie."""


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

    @property
    def source(self) -> str:
        """Its network, or its pseudonym; the agent where privacy left nothing else."""
        return source(self.client) if self.client else self.user_agent


@dataclass(frozen=True, slots=True)
class Relabeling:
    """A stored hit turns out to be a machine's."""

    event: int
    who: Who
    reason: str


def judge(hits: Sequence[Seen], *, delivered_at_us: int | None, links: int, shared: bool) -> list[Relabeling]:
    """Return the relabelings that *hits*, all stored opens and clicks of one message and recipient, call for.

    *delivered_at_us* is when the remote server took the mail for that recipient (for *shared* tokens, for the first
    of them), None while it has not or is not known. *links* is how many links of the message are tracked, 0 if that
    is not known.
    """
    machine: dict[int, str] = {}
    ordered = sorted(hits, key=lambda hit: (hit.at_us, hit.event))
    if delivered_at_us is not None:
        for hit in ordered:
            reason = _early(hit, delivered_at_us, shared=shared)
            if reason:
                machine.setdefault(hit.event, reason)
    clicks = [hit for hit in ordered if hit.type is EventType.CLICKED]
    for reason, members in _bursts(clicks, links, shared=shared):
        for hit in _belonging(ordered, members, delivered_at_us):
            machine.setdefault(hit.event, reason)
    return [
        Relabeling(hit.event, Who.MACHINE, machine[hit.event])
        for hit in ordered
        if hit.event in machine and hit.who is not Who.MACHINE
    ]


def _early(hit: Seen, delivered_at_us: int, *, shared: bool) -> str:
    if hit.at_us < delivered_at_us:
        return "before-delivery"
    window_us = OPEN_AT_DELIVERY_US if hit.type is EventType.OPENED else CLICK_AT_DELIVERY_US
    # A shared token's other recipients were served before or after the first: only "before all" is certain.
    return "at-delivery" if not shared and hit.at_us < delivered_at_us + window_us else ""


def _bursts(clicks: Sequence[Seen], links: int, *, shared: bool) -> list[tuple[str, list[Seen]]]:
    """Return the bursts among *clicks* (in time order), each with the clicks that make it one."""
    found: list[tuple[str, list[Seen]]] = []
    by_source: dict[str, list[Seen]] = {}
    for click in clicks:
        if click.source:
            by_source.setdefault(click.source, []).append(click)
    for group in by_source.values():
        found += [("burst", members) for members in _windows(group, BURST_US, BURST_LINKS)]
        if links == 2:
            found += [("burst", members) for members in _windows(group, PAIR_US, 2)]
    if not shared and links >= BURST_LINKS:
        for members in _windows(clicks, SWEEP_US, links):
            if len(members) == links:  # each once: a person who tries everything goes back to something
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


def _belonging(ordered: Sequence[Seen], members: Sequence[Seen], delivered_at_us: int | None) -> list[Seen]:
    """Return every hit that is part of the burst that *members* make: themselves, their neighbours, their opens."""
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
            part.append(hit)
        elif hit.type is EventType.OPENED:
            near = reach_us <= hit.at_us <= end_us + MARGIN_US
            if near and (hit.source in sources or (hit.user_agent in agents and hit.at_us <= end_us)):
                part.append(hit)
        elif begin_us - MARGIN_US <= hit.at_us <= end_us + MARGIN_US and hit.source in sources:
            part.append(hit)
    return part
