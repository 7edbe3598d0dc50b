"""A report as a mail: plain text and HTML, handed to sendmail(1)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path

from postwake.errors import UnavailableError
from postwake_console import report_html, report_text, words
from postwake_console.report_data import ReportData

PATIENCE_S = 120.0
"""A sendmail(1) that takes longer is stuck: it only has to queue."""


def compose(data: ReportData, *, host: str, sender: str, to: Sequence[str], unique: str) -> EmailMessage:
    """Return the mail: text and HTML as alternatives, and the page once more as a file.

    The file is for readers of mail that show no SVG: their HTML has the tables, the browser has the plots. *unique*
    goes into the Message-ID. ``Auto-Submitted`` (RFC 3834) keeps answering machines, and our own milter, away.
    """
    message = EmailMessage()
    total = data.total
    rates = ", ".join(f"{figure.rate} {figure.label.lower()}" for figure in words.headline(data) if figure.rate)
    message["Subject"] = (
        f"Postwake on {host}, {words.period(data)}: {words.count(total.recipients)} recipients, {rates}"
        if total.recipients
        else f"Postwake on {host}, {words.period(data)}: no mail"
    )
    message["From"] = Address("Postwake", addr_spec=sender)
    message["To"] = [Address(addr_spec=address) for address in to]
    message["Date"] = datetime.fromtimestamp(data.made_at_us // 1_000_000, tz=UTC)
    message["Message-ID"] = f"<postwake-report.{data.until_us // 1_000_000}.{unique}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    title = f"Postwake report of {host}"
    page = report_html.render(data, title)
    message.set_content(report_text.render(data, title), cte="quoted-printable")
    message.add_alternative(page, subtype="html", cte="quoted-printable")
    first = datetime.fromtimestamp(data.since_us / 1e6, tz=UTC).strftime("%Y-%m-%d")
    message.add_attachment(
        page.encode(), maintype="text", subtype="html", params={"charset": "utf-8"}, filename=f"postwake-{first}.html"
    )
    return message


def send(message: EmailMessage, sendmail: Path, sender: str, to: Sequence[str]) -> None:
    """Give *message* to *sendmail*; :class:`UnavailableError` says why it was not taken."""
    # -i: a line with a dot alone ends nothing. The recipients are ours, not what a header might be made to say.
    command = [str(sendmail), "-i", "-f", sender, "--", *to]
    try:
        done = subprocess.run(command, input=message.as_bytes(), capture_output=True, timeout=PATIENCE_S, check=False)
    except OSError as error:
        raise UnavailableError(f"report.sendmail = {str(sendmail)!r}: cannot run it: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{sendmail}: did not take the report within {PATIENCE_S:.0f} s") from None
    if done.returncode != os.EX_OK:
        said = words.printable(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
        raise UnavailableError(
            f"{sendmail}: did not take the report: status {done.returncode}: {said or 'no reason given'}"
        )
