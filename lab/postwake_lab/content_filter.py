"""A content filter as Postfix's FILTER_README has it: takes mail by SMTP, gives it back on another port."""

from __future__ import annotations

import contextlib
import smtplib
import socketserver
import threading


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        sender, recipients = "", list[str]()
        self._say("220 filter")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb in (b"HELO", b"EHLO"):
                self._say("250 filter")
            elif verb == b"MAIL":
                sender, recipients = _address(line), []
                self._say("250 ok")
            elif verb == b"RCPT":
                recipients.append(_address(line))
                self._say("250 ok")
            elif verb == b"DATA":
                self._say("354 go on")
                self._say(self._hand_back(sender, recipients))
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _hand_back(self, sender: str, recipients: list[str]) -> str:
        body = bytearray()
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            body += line[1:] if line.startswith(b".") else line
        with smtplib.SMTP("127.0.0.1", self.server.back_port, local_hostname="filter") as client:
            client.ehlo()
            client.mail(sender)
            for recipient in recipients:
                client.rcpt(recipient)
            code, text = client.data(bytes(body))
        return f"{code} {text.decode('ascii', 'replace')}"

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    back_port = 0


class ContentFilter:
    """One filter on a loopback port, in threads of this process."""

    def __init__(self, port: int, back_port: int) -> None:
        """Take mail on *port*, hand it back on *back_port*; listens at once, answers when started."""
        self._server = _Server(("127.0.0.1", port), _Session)
        self._server.back_port = back_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="content-filter", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop."""
        with contextlib.suppress(RuntimeError):
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "surrogateescape")
