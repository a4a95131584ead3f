"""The web page in a real Chromium: by keyboard, side by side, at phone width, in the dark."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from served import USER, Served

SECONDS = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.fail("Chromium is not installed: apt-get install chromium chromium-driver", pytrace=False)
    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1280,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    made = Chrome(options=options, service=ChromeService(driver))
    yield made
    made.quit()


@pytest.fixture
def page(browser: Chrome, service: Served) -> Chrome:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(service.url)
    until(browser, lambda: "bundle@1" in text(browser, "about"))
    return browser


def until(browser: Chrome, holds: Any) -> None:
    WebDriverWait(browser, SECONDS, poll_frequency=0.05).until(lambda _: holds())


def text(browser: Chrome, name: str) -> str:
    return browser.find_element(By.ID, name).text


def put(browser: Chrome, name: str, value: str) -> None:
    field = browser.find_element(By.ID, name)
    field.clear()
    field.send_keys(value)


def titles(browser: Chrome) -> list[list[str]]:
    lists = browser.find_elements(By.CSS_SELECTOR, ".list")
    return [
        [each.text for each in one.find_elements(By.CSS_SELECTOR, ".title span:first-child")] for one in lists
    ]


def test_asking_and_comparing(page: Chrome, service: Served, tmp_path: Path):
    """What is shown is what the API says, for both wishes; errors of the console are none."""
    put(page, "user", USER + Keys.TAB)
    until(page, lambda: len(page.find_elements(By.CSS_SELECTOR, "#past li")) > 3)
    assert "2011-" in text(page, "past")
    put(page, "max_price", "3")
    put(page, "wish", "bags")
    put(page, "other", "something for tea")
    slider = page.find_element(By.ID, "goal-long_tail")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext") == "favoured"
    page.find_element(By.ID, "wish").send_keys(Keys.ENTER)
    until(page, lambda: len(titles(page)) == 2 or text(page, "problem"))
    body = {"user": USER, "objective": {"long_tail": True}, "weights": {"long_tail": 0.5}, "k": 5}
    for shown, words in zip(titles(page), ("bags", "something for tea"), strict=True):
        found = service.ask(**body, words=words, filters={"max_price": 3})
        assert shown == [each["title"] for each in found["items"]]
    assert "price at most 3 pounds" in text(page, "lists") and "not among the most popular" in text(
        page, "lists"
    )
    assert "Because of" in text(page, "lists") or "Nothing in particular" in text(page, "lists")
    screenshots(page, tmp_path)
    assert [each for each in page.get_log("browser") if each["level"] == "SEVERE"] == []


def screenshots(page: Chrome, folder: Path) -> None:
    """Desktop in the light and in the dark, and a phone, where nothing may be wider than the screen."""
    for name, width, scheme in (("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        size = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 500}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        page.execute_script("scrollTo(0, 0)")
        assert page.save_screenshot(str(folder / f"{name}.png"))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_requests_are_copied(page: Chrome, service: Served):
    """curl and Python as they are copied ask the same, quotes and all."""
    put(page, "history", "22423, 84879")
    put(page, "wish", 'it\'s a "bag"')
    page.find_element(By.ID, "why").click()
    page.find_element(By.ID, "curl").click()
    until(page, lambda: text(page, "copied"))
    copied = page.find_element(By.ID, "copied")
    command = shlex.split(copied.get_attribute("data-text"))
    body = json.loads(command[command.index("-d") + 1])
    assert body["words"] == 'it\'s a "bag"' and body["history"] == ["22423", "84879"]
    expected = service.ask(**body)
    page.find_element(By.ID, "python").click()
    until(page, lambda: copied.get_attribute("data-text").startswith("from llmrec"))
    code = copied.get_attribute("data-text").replace("print(", "found.append(")
    found: list[Any] = []
    exec(compile(code, "copied", "exec"), {"found": found})
    assert found == [expected]


def test_a_mistake_is_said(page: Chrome):
    put(page, "user", "nobody")
    page.find_element(By.CSS_SELECTOR, "button.main").click()
    until(page, lambda: "is not known" in text(page, "problem"))
    assert page.find_element(By.ID, "problem").get_attribute("role") == "alert"


def test_for_keyboard_and_screen_reader(page: Chrome):
    """Every field has a name and is reached by Tab; the first stop leads past the form."""
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('input, textarea, button')]"
        ".filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()).map(e => e.id)"
    )
    assert unnamed == []
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("class") == "skip"
    reached: set[str | None] = set()
    for _ in range(30):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(page.switch_to.active_element.get_attribute("id"))
    assert {
        "user",
        "history",
        "wish",
        "other",
        "k",
        "goal-diverse",
        "max_price",
        "seen",
        "curl",
        "python",
    } <= reached
    assert page.execute_script("return document.documentElement.lang") == "en"


def test_the_page_of_the_api_needs_no_internet(browser: Chrome, service: Served, tmp_path: Path):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get_log("browser")  # what pages before it had to say
    browser.get(service.url + "/docs")
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".opblock"))
    shown = {each.text for each in browser.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")}
    assert {"/v1/recommend", "/v1/events", "/v1/chat/completions"} <= {
        each.replace("\u200b", "") for each in shown
    }
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert loaded and all(each.startswith(service.url) or each.startswith("data:") for each in loaded)
    assert browser.save_screenshot(str(tmp_path / "docs.png"))
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []
