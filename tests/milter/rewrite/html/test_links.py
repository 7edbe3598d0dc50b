"""What is a link, where it leads, and why one is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postwake_milter.rewrite import links
from postwake_milter.rewrite.html_edit import HtmlPlan, HtmlResult, apply_edits, edit_html
from postwake_milter.rewrite.links import LinkRules, Skip, visible_host, visible_text

Edit = Callable[..., tuple[HtmlResult, bytes]]

LONG = "https://example.com/" + "x" * 1980


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://example.com", "http://example.com"),
        ("HTTPS://Example.COM/Path", "HTTPS://Example.COM/Path"),
        (" \r\n\thttps://example.com/ \n", "https://example.com/"),
        ("https://exam\r\nple.com/a\tb", "https://example.com/ab"),
        ("\x01https://example.com/\x1f", "https://example.com/"),
        ("https://example.com/a b?c d#e f", "https://example.com/a%20b?c%20d#e%20f"),
        ("https://example.com/?a=1&amp;b=2&c=3", "https://example.com/?a=1&b=2&c=3"),
        ("https://example.com/?a=1&sectionId=2&copy=3&reg", "https://example.com/?a=1&sectionId=2&copy=3®"),
        ("https&#58;//example.com", "https://example.com"),
        ("https://example.com/@me?x[0]=1&y=100%25", "https://example.com/@me?x[0]=1&y=100%25"),
        ("https://user:pw@example.com:8443/", "https://user:pw@example.com:8443/"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]:80/x"),
        (r"http://example.com\a\b?c\d", r"http://example.com/a/b?c\d"),
        (r"http:\\example.com\a", "http://example.com/a"),
        ("HTTPS:///example.com/a", "HTTPS://example.com/a"),
        ("http:/\\/example.com", "http://example.com"),
        ("https://example.com/größe?q=ü", "https://example.com/größe?q=ü"),
        ("https://example.com/gr&ouml;&szlig;e", "https://example.com/größe"),
        ("https://例え.jp/", "https://例え.jp/"),
        ("https://example.com/{id}/100%/50%%", "https://example.com/{id}/100%/50%%"),
        (LONG, LONG),
    ],
)
def test_the_destination_is_what_the_browser_follows(edit: Edit, value: str, url: str) -> None:
    """A wrapped link leads to the exact URL a browser would have followed."""
    result, _ = edit(f'<p><a href="{value}">x</a>'.encode())
    assert [link.url for link in result.links] == [url]
    assert result.skipped == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("#top", "fragment"),
        ("mailto:a@example.com", "not-http"),
        ("MailTo:a@example.com?subject=https://example.com", "not-http"),
        ("tel:+4930123456", "not-http"),
        ("sms:+4930123456", "not-http"),
        ("cid:part1@example.com", "not-http"),
        ("data:text/html,x", "not-http"),
        ("javascript:alert(1)", "not-http"),
        ("java\nscript:alert(1)", "not-http"),
        ("ftp://example.com/", "not-http"),
        ("myapp://open?u=https://example.com", "not-http"),
        ("svn+https://example.com", "not-http"),
        ("//example.com/x", "relative"),
        ("/x", "relative"),
        ("www.example.com", "relative"),
        ("?x=1", "relative"),
        ("http:example.com", "malformed"),
        ("http:/example.com", "malformed"),
        ("http://", "malformed"),
        ("http:///", "malformed"),
        ("http://?x", "malformed"),
        ("https://exam ple.com/", "malformed"),
        ("http://user@/", "malformed"),
        ("https://example.com/\x01", None),
        ("https://example.com/\x01x", "control-characters"),
        ("https://example.com/&#0;", "control-characters"),
        ("https://example.com/\x7fx", "control-characters"),
        ("https://example.com/a\x0bb", "control-characters"),
        ("{{ url }}", "template"),
        ("https://{{host}}/", "template"),
        ("https://example.com/{% if x %}", "template"),
        ("https://example.com/%%TOKEN%%", "template"),
        ("*|UNSUB|*", "template"),
        ("https://example.com/*|id|*", "template"),
        ("https://example.com/${id}", "template"),
        ("https://example.com/<%= id %>", "template"),
        ("https://example.com/[[id]]", "template"),
        (LONG + "x", "too-long"),
        (LONG[:-1] + "ü", "too-long"),
        (LONG[:-2] + " x", "too-long"),  # the space becomes three characters
        ("https://t.example.net/c/abc", "own-host"),
        ("HTTPS://u@T.Example.Net.:443/c/abc", "own-host"),
        ("https://t.example.net.example.com/", None),
    ],
)
def test_what_is_not_a_link_is_left_alone_by_name(edit: Edit, value: str, reason: str | None) -> None:
    """Only absolute http and https URLs are wrapped; everything else is counted under its reason."""
    html = f'<p><a href="{value}">x</a>'.encode()
    result, edited = edit(html, opens=False)
    if reason is None:
        assert (len(result.links), result.skipped) == (1, {})
    else:
        assert (result.links, result.skipped) == ((), {reason: 1})
        assert edited == html


@pytest.mark.parametrize(
    "url",
    [
        "https://u123.ct.sendgrid.net/ls/click?upn=abc",
        "https://links.example.com/ls/click?upn=u001.abc",
        "https://links.example.com/wf/click?upn=abc",
        "https://email.mg.example.com/c/eJwVjEsOwiAUAE9TlgYe3wULN97j8SmQ",
        "https://click.pstmrk.it/3s/example.com/abc",
        "https://abc.r.eu-west-1.awstrack.me/L0/https:%2F%2Fexample.com/1/x",
        "https://track.example.com/CL0/https:%2F%2Fexample.com%2F/1/x",
        "https://go.example.com/f/a/abcdefghijklmnopqrstuvwx~~/AAA~/x",
        "https://example.us1.list-manage.com/track/click?u=1&id=2",
        "https://mandrillapp.com/track/click/123/example.com?p=x",
        "https://x.mjt.lu/lnk/abc/1/def/aHR0",
        "https://d2v8.rs6.net/tn.jsp?f=001",
        "https://m.example.com/r/0123456789abcdef01234567?ct=YTo1",
        "https://e.example.com/e/c/eyJlbWFpbF9pZCI6ImRnVE",
    ],
)
def test_other_services_tracking_links_are_not_wrapped_again(edit: Edit, url: str) -> None:
    """A link whose clicks another service counts is left to it."""
    result, _ = edit(f'<a href="{url}">x</a>'.encode())
    assert result.skipped == {"other-tracker": 1}


@pytest.mark.parametrize(
    "url",
    [
        "https://sendgrid.com/docs/",
        "https://notrs6.net/",
        "https://example.com/track/click/",
        "https://example.com/c/eJwVjEsOwiAUAE9TlgYe3wULN97j8SmQ",
        "https://example.com/?next=https://u1.ct.sendgrid.net/",
        "https://example.com/r/news?ct=1",
    ],
)
def test_ordinary_links_are_not_taken_for_tracking_links(edit: Edit, url: str) -> None:
    """A host or path that merely resembles a tracker's is wrapped."""
    result, _ = edit(f'<a href="{url}">x</a>'.encode())
    assert len(result.links) == 1


@pytest.mark.parametrize(
    ("patterns", "host", "excluded"),
    [
        (("example.com",), "example.com", True),
        (("example.com",), "www.example.com", False),
        (("*.example.com",), "www.example.com", True),
        (("*.example.com",), "example.com", False),
        (("*bank*",), "my-bank.example", True),
        (("a.example", "b.example"), "b.example", True),
        (("a.example",), "A.EXAMPLE:8080", True),
        (("A.Example",), "a.example", True),
    ],
)
def test_configured_hosts_are_excluded(edit: Edit, patterns: tuple[str, ...], host: str, excluded: bool) -> None:
    """A host pattern excludes exactly the hosts that it matches."""
    result, _ = edit(f'<a href="http://{host}/">x</a>'.encode(), excluded_hosts=patterns)
    assert result.skipped == ({"excluded": 1} if excluded else {})


@pytest.mark.parametrize(
    "tag",
    [
        '<a href="https://example.com/unsubscribe?u=1">click here</a>',
        '<a href="https://example.com/u/UnSub/1">click here</a>',
        '<a href="https://example.com/opt-out">click here</a>',
        '<a href="https://example.com/email_preferences">click here</a>',
        '<a href="https://example.com/x">Unsubscribe</a>',
        '<a href="https://example.com/x"><b>un</b>subscribe from this list</a>',
        '<a href="https://example.com/x">Se d&eacute;sabonner</a>',
        '<a href="https://example.com/x">Newsletter abbestellen</a>',
        '<a href="https://example.com/x">Darse de baja</a>',
        '<a href="https://example.com/x">退订</a>',
        '<a rel="nofollow Unsubscribe" href="https://example.com/x">x</a>',
        '<a href="https://example.com/l?a=1&amp;b=2">x</a>',
        '<area href="https://example.com/unsubscribe">',
    ],
)
def test_the_unsubscribe_link_is_left_alone(edit: Edit, tag: str) -> None:
    """The unsubscribe link, told by address, text, rel or List-Unsubscribe, is wrapped only if configured so."""
    targets = frozenset(("https://example.com/l?a=1&b=2",))
    result, _ = edit(tag.encode(), unsubscribe_targets=targets)
    assert result.skipped == {"unsubscribe": 1}
    result, _ = edit(tag.encode(), unsubscribe_targets=targets, skip_unsubscribe=False)
    assert len(result.links) == 1


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://www.example.com/path?x", "www.example.com"),
        ("http://example.com", "example.com"),
        ("example.com", "example.com"),
        ("www.example.co.uk/x.", "www.example.co.uk"),
        ("example.com/@user", "example.com"),
        ("https://good.example@evil.example/", "evil.example"),
        ("http:example.com", "example.com"),
        ("http://192.0.2.1/login", "192.0.2.1"),
        ("example.com:8080/x", "example.com"),
        ("bücher.example", "bücher.example"),
        ("example.com!", "example.com"),
        ("https://xn--e1afmkfd.xn--p1ai/x", "xn--e1afmkfd.xn--p1ai"),
        ("xn--e1afmkfd.xn--p1ai", "xn--e1afmkfd.xn--p1ai"),
        ("http://[2001:db8::1]:80/x", "[2001:db8::1]"),
        ("http://localhost:8080/", "localhost"),
        ("https://intranet/path", "intranet"),
        ("https://example.com/a file.pdf", "example.com"),
        ("https://example.com. All of it", "example.com"),
        ("\u2192 https://example.com/x", "example.com"),
        ("\u201chttps://example.com\u201d", "example.com"),
        ("(example.com)", "example.com"),
        ("example.com \u00bb", "example.com"),
        ("our site", ""),
        ("https", ""),
        ("https: what it is", ""),
        ("https://", ""),
        ("see https://example.com/", ""),
        ("visit example.com now", ""),
        ("name@example.com", ""),
        ("readme.md", ""),
        ("invoice.pdf", ""),
        ("version 2.0", ""),
        ("1.234,50", ""),
        ("...", ""),
        ("e.g.", ""),
        ("", ""),
    ],
)
def test_text_that_is_an_address_is_told(text: str, host: str) -> None:
    """Text is an address when all of it is one, or it begins with one whose scheme says so; mail addresses, files and
    numbers are not."""
    assert visible_host(text) == host


@pytest.mark.parametrize(
    ("content", "skipped"),
    [
        ("https://example.com/", True),
        ("<b>https://</b>example.com", True),
        ("<!-- x -->&#119;ww.example.com", True),
        ("https://t.example.net/", False),
        ("https://www.example.net/shop", False),
        ("https://xexample.net/", True),
        ("shop", False),
        ('<img src="https://example.com/x.png" alt="">', False),
    ],
)
def test_links_that_show_another_host_are_left_alone(edit: Edit, content: str, skipped: bool) -> None:
    """An anchor that shows a URL is left alone unless the tracking host belongs to the host shown."""
    html = f'<a href="https://example.com/">{content}</a>'.encode()
    assert edit(html)[0].skipped == ({"visible-url": 1} if skipped else {})
    assert edit(html, skip_visible_url=False)[0].skipped == {}


@pytest.mark.parametrize(
    "attribute",
    [
        "clicktracking=off",
        'clicktracking="off"',
        "CLICKTRACKING='OFF'",
        "data-pm-no-track",
        'data-pm-no-track=""',
        "ses:no-track",
        'disable-tracking="true"',
        'data-msys-clicktrack="0"',
        "data-mautic-disable-tracking",
        'data-mautic-disable-tracking="true"',
        "mautic:disable-tracking",
        'mc:disable-tracking=""',
        "data-no-track",
        "data-no-track='data-no-track'",
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_opt_outs_are_honoured_and_stripped(edit: Edit, attribute: str, place: str) -> None:
    """Every dialect's opt-out keeps its link as it is, and goes, with the whitespace before it, wherever it stands."""
    href = 'href="https://example.com/"'
    pair = (attribute, href) if place == "before" else (href, attribute)
    html = f"<p><a\n  {pair[0]}\n  {pair[1]} id=x>x</a> and <a href=http://example.com/>y</a>".encode()
    result, edited = edit(html, opens=False)
    assert result.skipped == {"opt-out": 1}
    assert result.reason is None
    assert edited == (b'<p><a\n  href="https://example.com/" id=x>x</a> and <a href=https://t.example.net/c/0>y</a>')


@pytest.mark.parametrize(
    "attribute",
    [
        "clicktracking=on",
        "clicktracking",
        "clicktracking=on clicktracking=off",
        'disable-tracking="false"',
        'data-msys-clicktrack="1"',
        'data-no-track="false"',
        "data-no-tracking",
        "title='clicktracking=off'",
    ],
)
def test_what_is_not_an_opt_out_stays(edit: Edit, attribute: str) -> None:
    """Other values and other attributes neither exempt a link nor are removed."""
    result, edited = edit(f"<a {attribute} href='https://example.com/'>x</a>".encode(), opens=False)
    assert result.skipped == {}
    assert edited == f"<a {attribute} href='https://t.example.net/c/0'>x</a>".encode()


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (b'<a clicktracking="off"href=http://x.example>', b"<a href=http://x.example>"),
        (b'<a title="t"data-no-track href=http://x.example>', b'<a title="t" href=http://x.example>'),
        (b"<a href=http://x.example/ data-no-track/>", b"<a href=http://x.example/ />"),
        (b"<a href=http://x.example data-no-track>", b"<a href=http://x.example>"),
        (b"<a data-no-track data-no-track=1 href=http://x.example>", b"<a href=http://x.example>"),
        (b"<a data-no-track ses:no-track href=http://x.example>", b"<a href=http://x.example>"),
        (b"<a data-no-track name=top>", b"<a name=top>"),
        (b"<area data-no-track href=http://x.example>", b"<area href=http://x.example>"),
        (b"<img data-no-track>", b"<img data-no-track>"),
        (
            b"<!--[if mso]><v:rect data-no-track href=http://x.example></v:rect><![endif]-->x",
            b"<!--[if mso]><v:rect href=http://x.example></v:rect><![endif]-->x",
        ),
    ],
)
def test_stripping_leaves_the_other_attributes_whole(edit: Edit, html: bytes, expected: bytes) -> None:
    """Attributes that stand next to a stripped one never run together."""
    result, edited = edit(html, opens=False)
    assert edited == expected
    assert result.reason is None


@pytest.mark.parametrize(
    "attribute",
    [
        'ses:tags="product:book;genre:sci fi"',
        "ses:tags",
        'ses:custom-path="shop"',
        'data-msys-linkname="Test Link > 1"',
        "DATA-MSYS-LINKNAME=banner data-msys-linkname=other",
        'data-msys-sublink="open-in-app"',
        "data-msys-unsubscribe=0",
        """ses:tags='a:b'\tdata-msys-linkname=x""",
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_what_tells_a_service_of_a_link_is_stripped(edit: Edit, attribute: str, place: str) -> None:
    """Names and tags of a link that only the service reads go, with the whitespace before them; the link is counted."""
    pair = (attribute, "href=https://example.com/")
    first, second = pair if place == "before" else pair[::-1]
    result, edited = edit(f"<p><a\n  {first}\n  {second} id=x>x</a>".encode(), opens=False)
    assert (result.skipped, result.reason) == ({}, None)
    assert edited == b"<p><a\n  href=https://t.example.net/c/0 id=x>x</a>"


@pytest.mark.parametrize(
    ("skip_unsubscribe", "href", "skipped"),
    [
        pytest.param(True, b"https://example.com/", {"unsubscribe": 1}, id="left-alone"),
        pytest.param(False, b"https://t.example.net/c/0", {}, id="configured-to-be-counted"),
    ],
)
def test_an_unsubscribe_link_of_sparkpost_is_one(
    edit: Edit, skip_unsubscribe: bool, href: bytes, skipped: dict[str, int]
) -> None:
    """data-msys-unsubscribe says which link unsubscribes; it goes, and the link is treated like every such link."""
    html = b'<p><a data-msys-unsubscribe="1" href="https://example.com/">Goodbye</a>'
    result, edited = edit(html, opens=False, skip_unsubscribe=skip_unsubscribe)
    assert edited == b'<p><a href="' + href + b'">Goodbye</a>'
    assert result.skipped == skipped


def test_a_comment_never_ends_early(plan: Callable[..., HtmlPlan]) -> None:
    """Where a stripped attribute leaves a bare URL at the end of a tag in a comment, none that ends in "--" goes in."""

    class Mint:
        def open_url(self, position: int) -> str:
            return "https://t.example.net/o/0"

        def click_url(self, link: int, destination: str) -> str:
            return f"https://t.example.net/c/{link}--"

    html = b"<p>x<!--[if mso]><v:rect href=http://x.example ses:tags=y></v:rect><![endif]-->"
    result = edit_html(html, plan(opens=False), Mint())
    assert apply_edits(html, result.edits) == html.replace(b" ses:tags=y", b"")


def test_without_click_tracking_opt_outs_stay(edit: Edit) -> None:
    """Where clicks are not counted, nothing about links changes."""
    html = b"<p><a data-no-track href=http://x.example>x</a>"
    result, edited = edit(html, clicks=False)
    assert edited.startswith(html)
    assert result.skipped == {}


@pytest.mark.parametrize(
    ("href", "url"),
    [
        pytest.param("http://x.example/ü".encode("cp1252"), "http://x.example/ü", id="path"),
        pytest.param("http://ü.example/#ü?ü".encode("cp1252"), "http://ü.example/#ü?ü", id="host-and-fragment"),
        pytest.param(b"http://x.example/&uuml;?a=1&amp;b=2", "http://x.example/ü?a=1&b=2", id="references"),
        pytest.param("http://x.example/?ü".encode("cp1252"), "charset", id="query"),
        pytest.param(b"http://x.example/?&uuml;", "charset", id="reference-in-query"),
        pytest.param("mailto:ü".encode("cp1252"), "not-http", id="mailto"),
        pytest.param("/?ü".encode("cp1252"), "relative", id="relative"),
    ],
)
def test_beyond_utf8_only_queries_are_encoded_by_the_charset(edit: Edit, href: bytes, url: str) -> None:
    """A browser encodes a query by the document's charset, so that such links are left alone; all else is UTF-8."""
    result, _ = edit(b"<a href='" + href + b"'>x</a>", codec="cp1252")
    assert [*(link.url for link in result.links), *result.skipped] == [url]


@pytest.mark.parametrize(
    ("text", "codec"), [("Отписаться", "cp1251"), ("Отписаться", "koi8-r"), ("配信停止", "cp932"), ("退订", "gb18030")]
)
def test_unsubscribe_links_are_known_in_any_charset(edit: Edit, text: str, codec: str) -> None:
    """What a link says is read in the document's charset."""
    result, _ = edit(b"<a href=http://x.example>" + text.encode(codec) + b"</a>", codec=codec)
    assert result.skipped == {"unsubscribe": 1}


@pytest.mark.parametrize(
    ("path", "codec"),
    [(b"o\x92clock", "iso8859-1"), (b"o\x92clock", "iso8859-9"), (b"\xfeY", "gb18030"), (b"\xa0", "cp932")],
)
def test_bytes_that_browsers_read_as_something_else(edit: Edit, path: bytes, codec: str) -> None:
    """A byte that is a quotation mark to a browser and a control to others tells no address."""
    result, _ = edit(b"<a href='http://x.example/" + path + b"'>x</a>", codec=codec)
    assert result.skipped == {"charset": 1}


def test_bytes_that_are_not_utf8_are_left_alone(edit: Edit) -> None:
    """A URL whose bytes are not valid UTF-8 in a document said to be UTF-8 is left alone."""
    result, _ = edit(b"<a href='http://x.example/\xfc'>x</a>")
    assert result.skipped == {"charset": 1}


def test_every_reason_is_explained() -> None:
    """The table of reasons in the module's docstring names every reason there is, and no other."""
    assert links.__doc__ is not None
    rows = links.__doc__.split("=\n")[2].splitlines()
    names = [row.split()[0] for row in rows if row and not row.startswith((" ", "="))]
    assert names == [str(reason) for reason in Skip]


def test_visible_text_is_what_a_reader_sees() -> None:
    """Markup and comments go, references are decoded, whitespace collapses, unclosed markup ends the text."""
    assert visible_text(b" a\n<b>b</b><!-- c -->&amp;  d<i x='", "utf-8") == "a b& d"
    assert visible_text(b"a<!-- b", "utf-8") == "a"
    assert visible_text(b"1 < 2", "utf-8") == "1 < 2"


def test_own_hosts_may_name_a_port() -> None:
    """With a port, a host of ours is ours on that port only."""
    rules = LinkRules(own_hosts=frozenset(("localhost:8080",)))
    assert links.rules_skip("http://localhost:8080/c/x", rules) is Skip.OWN_HOST
    assert links.rules_skip("http://localhost/c/x", rules) is None


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://www.example.com/mail/c/x", True),
        ("http://WWW.example.com:8443/mail?x", True),
        ("https://www.example.com/mail", True),
        ("https://www.example.com/mailing", False),
        ("https://www.example.com/Mail/c/x", False),
        ("https://www.example.com/shop?from=/mail/", False),
        ("https://www.example.com", False),
        ("https://example.com/mail/c/x", False),
    ],
)
def test_own_hosts_may_name_a_path(url: str, own: bool) -> None:
    """Where the tracking URL is a path of the sender's own site, the rest of the site is counted like any other."""
    rules = LinkRules(own_hosts=frozenset(("www.example.com/mail",)))
    assert links.rules_skip(url, rules) == (Skip.OWN_HOST if own else None)
