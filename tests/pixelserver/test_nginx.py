"""The shipped nginx configuration, in a real nginx with TLS, in front of the real server."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from postwake.tokens import Purpose
from postwake_lab.ports import free_ports

SHIPPED = Path(__file__).parents[2] / "contrib" / "nginx" / "postwake.conf"
pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx and openssl to be installed"
)


@pytest.fixture(scope="module")
def proxied(make_server, tmp_path_factory):
    """The server on a UNIX socket, nginx before it; yields the server and the TLS port."""
    directory = tmp_path_factory.mktemp("nginx")
    directory.chmod(0o755)
    path = directory / "pixelserver.sock"
    server = make_server(start=False, pixelserver={"listen": f"unix:{path}", "proxy_hops": 1})
    server.await_ready = lambda: None
    server.start()
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=track.example.com",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    plain, tls = free_ports(2)
    text = SHIPPED.read_text(encoding="utf-8")
    for shipped, ours in (
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{tls} ssl http2;"),
        ("    listen [::]:80;\n", ""),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("/run/postwake-pixelserver/http.sock", str(path)),
        ("/etc/letsencrypt/live/track.example.com/fullchain.pem", str(directory / "cert.pem")),
        ("/etc/letsencrypt/live/track.example.com/privkey.pem", str(directory / "key.pem")),
        ("/var/log/nginx/", f"{directory}/"),
    ):
        assert shipped in text
        text = text.replace(shipped, ours)
    (directory / "postwake.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    paths = " ".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; pid {directory}/pid; error_log {directory}/error.log;"
        f" events {{}} http {{ {paths} include {directory}/postwake.conf; }}"
    )
    nginx = subprocess.Popen(["nginx", "-c", directory / "nginx.conf", "-p", directory], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            if ask(tls, "GET", "/healthz")[0] == 200:
                break
        if nginx.poll() is not None or time.monotonic() > deadline:
            nginx.kill()
            pytest.fail(f"nginx does not answer: {nginx.communicate()[1]!r} {server.log()}")
        time.sleep(0.05)
    yield server, tls, plain, directory
    nginx.terminate()
    nginx.communicate(timeout=10)
    server.stop()


def ask(port: int, method: str, path: str, *, tls: bool = True, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    )
    with contextlib.closing(connection):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Host": "track.example.com", **names})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def test_redirect_passes_through_unchanged(proxied) -> None:
    """nginx neither rewrites the Location nor lets anything be cached."""
    server, tls, _, _ = proxied
    for url in ("https://example.com/%7Ea?x=1&y=%26#f", "http://postwake/c/x", "https://track.example.com:8443/x"):
        status, headers, _ = ask(tls, "GET", f"/c/{server.token(Purpose.CLICK, url)}")
        assert (status, headers["location"], headers["cache-control"]) == (307, url, "no-store")


def test_longest_token_passes(proxied) -> None:
    """A token with a URL of 2,000 bytes fits nginx's header buffers."""
    server, tls, _, _ = proxied
    url = "https://example.com/?" + "x" * 1979
    assert ask(tls, "GET", f"/c/{server.token(Purpose.CLICK, url)}")[1]["location"] == url


def test_the_reader_is_who_nginx_saw(proxied) -> None:
    """What the client writes into X-Forwarded-For, with hyphens or underscores, is nobody's address."""
    server, tls, _, _ = proxied
    tracking_id = os.urandom(16)
    token = server.token(Purpose.CLICK, "https://example.com/", tracking_id=tracking_id)
    assert ask(tls, "GET", f"/c/{token}", X_Forwarded_For="6.6.6.6", Forwarded="for=6.6.6.6")[0] == 307
    context = ssl._create_unverified_context()
    with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", tls, context=context)) as connection:
        connection.request("GET", f"/c/{token}", headers={"X_Forwarded_For": "6.6.6.6", "Host": "track.example.com"})
        assert connection.getresponse().status == 307
    sql = "SELECT event.client FROM event JOIN message ON message.id = message WHERE tracking_id = ?"
    assert server.rows(sql, tracking_id) == [("127.0.0.1",), ("127.0.0.1",)]


def test_plain_http_is_sent_to_https_with_its_method(proxied) -> None:
    """308, so that a one-click POST stays a POST."""
    _, _, plain, _ = proxied
    status, headers, _ = ask(plain, "POST", "/u/x", tls=False)
    assert (status, headers["location"]) == (308, "https://track.example.com/u/x")


def test_one_click_through_nginx(proxied) -> None:
    """The unsubscription arrives."""
    server, tls, _, _ = proxied
    status, _, body = ask(tls, "POST", f"/u/{server.token(Purpose.UNSUBSCRIBE)}", Accept_Language="nl")
    assert status == 200
    assert "afgemeld" in body.decode()


def test_the_log_names_no_reader_and_no_token(proxied) -> None:
    """nginx's own log holds networks and no paths."""
    server, tls, _, directory = proxied
    token = server.token(Purpose.OPEN)
    ask(tls, "GET", f"/o/{token}.gif")
    log = (directory / "postwake.log").read_text()
    assert "127.0.0.0 [" in log
    assert "127.0.0.1" not in log
    assert token[:20] not in log
