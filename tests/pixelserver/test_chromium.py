"""The unsubscribe page in a real browser: read, operated by keyboard, without script, in every language and light."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import title_is
from selenium.webdriver.support.wait import WebDriverWait

from postwake.events import EventType
from postwake.tokens import Purpose
from postwake_pixelserver import pages

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs Chromium and its driver: `make test-browser` installs chromium and chromium-driver",
    ),
]
FLAGS = """
--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync --window-size=480,800
""".split()  # noqa: SIM905 - as one types them
Browser = webdriver.Chrome
STATES = ("ask", "done", "undone")


def start(preferences: dict[str, Any]) -> Browser:
    """Start Chromium with *preferences*."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", preferences)
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser as people have it."""
    browser = start({})
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def scriptless() -> Iterator[Browser]:
    """A browser that runs no script."""
    browser = start({"profile.managed_default_content_settings.javascript": 2})
    yield browser
    browser.quit()


@pytest.fixture
def page(server: Any) -> Callable[..., tuple[str, Callable[[], list[EventType]]]]:
    """Make the address of a new page, and what tells what was recorded by it."""

    def make() -> tuple[str, Callable[[], list[EventType]]]:
        tracking_id = os.urandom(16)

        def recorded() -> list[EventType]:
            sql = "SELECT type FROM event JOIN message ON message.id = message WHERE tracking_id = ? ORDER BY event.id"
            return [EventType(kind) for (kind,) in server.rows(sql, tracking_id)]

        token = server.token(Purpose.UNSUBSCRIBE, tracking_id=tracking_id)
        return f"http://127.0.0.1:{server.port}/u/{token}", recorded

    return make


def say(browser: Browser, language: str) -> None:
    """Have *browser* ask for *language*."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Accept-Language": language}})


def bring(browser: Browser, address: str, state: str) -> None:
    """Bring *browser* to the page in *state*, as a reader would."""
    browser.get(address)
    for _ in STATES[: STATES.index(state)]:
        press_button(browser)


def press_button(browser: Browser) -> None:
    """Click the button and wait for the page behind it."""
    before = browser.current_url
    browser.find_element(By.TAG_NAME, "button").click()
    wait_for(browser, lambda there: there.current_url != before and there.find_elements(By.TAG_NAME, "button"))


def wait_for(browser: Browser, condition: Callable[[Browser], Any]) -> None:
    """Wait until *condition* holds in *browser*."""
    WebDriverWait(browser, 20, 0.02, (WebDriverException,)).until(condition)


def test_keyboard_alone(chromium: Browser, page: Any) -> None:
    """Tab reaches the one control, whose focus can be seen; Enter unsubscribes; Tab and space take it back."""
    address, recorded = page()
    say(chromium, "en")
    chromium.get(address)
    assert recorded() == [], "looking unsubscribes nobody"

    def press(key: str) -> None:
        chromium.switch_to.active_element.send_keys(key)

    def focused() -> str:
        element = chromium.switch_to.active_element
        assert element.tag_name == "button"
        assert element.value_of_css_property("outline-style") == "solid"
        assert element.value_of_css_property("outline-width") == "3px"
        return str(element.text)

    press(Keys.TAB)
    assert focused() == "Unsubscribe"
    press(Keys.ENTER)
    wait_for(chromium, title_is("You are unsubscribed"))
    assert recorded() == [EventType.UNSUBSCRIBED]
    press(Keys.TAB)
    assert focused() == "Subscribe again"
    press(Keys.SPACE)
    wait_for(chromium, title_is("You are subscribed again"))
    assert recorded() == [EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED]


def test_without_script(scriptless: Browser, page: Any) -> None:
    """The whole way with script forbidden; nothing on the page would have run any."""
    scriptless.get("data:text/html,<title>no</title><script>document.title='script ran'</script>")
    assert scriptless.title == "no", "this browser runs script: the test is none"
    address, recorded = page()
    scriptless.get(address)
    press_button(scriptless)
    assert recorded() == [EventType.UNSUBSCRIBED]
    press_button(scriptless)
    assert recorded() == [EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED]
    assert "<script" not in scriptless.page_source


@pytest.mark.parametrize("language", list(pages.languages()))
def test_what_a_screen_reader_is_told(chromium: Browser, page: Any, language: str) -> None:
    """In each state: the language, one heading that is the title, one button whose name is what can be read on it."""
    say(chromium, language)
    words = pages.languages()[language]
    buttons = {"ask": words["button"], "done": words["undo"], "undone": words["button"]}
    headings = {"ask": words["title"], "done": words["done_title"], "undone": words["undone_title"]}
    address, _ = page()
    for state in STATES:
        bring(chromium, address, state)
        assert chromium.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
        nodes = chromium.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        found: dict[str, list[dict[str, Any]]] = {}
        for node in nodes:
            if not node.get("ignored"):
                found.setdefault(node["role"]["value"], []).append(node)
        (heading,), (button,) = found["heading"], found["button"]
        assert heading["name"]["value"] == chromium.title == headings[state]
        assert button["name"]["value"] == chromium.find_element(By.TAG_NAME, "button").text == buttons[state]
        assert "main" in found
        if state == "done":
            assert button["description"]["value"] == words["undo_note"]


_LOOK = """
const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const parse = text => text.match(/[\\d.]+/g).map(Number);
const luminance = rgb => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
const contrast = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};
const ground = element => {
  for (let at = element; at; at = at.parentElement) {
    const found = parse(getComputedStyle(at).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found;
  }
};
const button = document.querySelector('button');
const texts = [...document.querySelectorAll('h1, p, button')];
return {
  texts: texts.map(e => contrast(parse(getComputedStyle(e).color), ground(e))),
  border: contrast(parse(getComputedStyle(button).borderTopColor), ground(document.body)),
  height: button.getBoundingClientRect().height,
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  loaded: performance.getEntriesByType('resource').length,
};
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_what_can_be_seen(chromium: Browser, page: Any, scheme: str, state: str) -> None:
    """Contrast of 4.5 for text and 3 for the button's edge, 44 pixels to hit, no sideways scrolling at 320 (WCAG 2.2).

    And nothing is loaded from anywhere.
    """
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    narrow = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        for language in pages.languages():
            say(chromium, language)
            bring(chromium, page()[0], state)
            seen = chromium.execute_script(_LOOK)
            assert min(seen["texts"]) >= 4.5, (language, seen)
            assert seen["border"] >= 3, (language, seen)
            assert seen["height"] >= 44
            assert seen["overflow"] <= 0, language
            assert seen["loaded"] == 0
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_picture(chromium: Browser, page: Any, tmp_path: Any) -> None:
    """The page is drawn: the picture holds the button's colour where the button is, and the ground's around it.

    ``POSTWAKE_PICTURES=DIR`` keeps pictures of every state and language there, to be looked at.
    """
    kept = os.environ.get("POSTWAKE_PICTURES")
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for language in pages.languages() if kept else ("en",):
        say(chromium, language)
        address, _ = page()
        for state in STATES:
            bring(chromium, address, state)
            picture = chromium.get_screenshot_as_png()
            assert picture.startswith(b"\x89PNG")
            if kept:
                with open(f"{kept}/{language}-{state}.png", "wb") as out:  # noqa: PTH123
                    out.write(picture)
    bring(chromium, page()[0], "ask")
    button = chromium.find_element(By.TAG_NAME, "button")
    assert len(button.screenshot_as_png) > 500, "an empty picture"
    assert len(set(button.screenshot_as_png)) > 100
