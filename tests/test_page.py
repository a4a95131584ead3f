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
from selenium.webdriver.support.ui import Select, WebDriverWait
from served import USER, Served, copied, served

from llmrec.serving.keys import add_key

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
    """All lists at once: they may be replaced meanwhile."""
    script = """return [...document.querySelectorAll('.list')].map(
        list => [...list.querySelectorAll('.title span:first-child')].map(each => each.innerText))"""
    found: list[list[str]] = browser.execute_script(script)
    return found


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
        size["height"] = page.execute_script("scrollTo(0, 0); return document.documentElement.scrollHeight")
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # all of it on the picture
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


def paste(browser: Chrome, value: str) -> None:
    """Into the history, from the clipboard, without leaving the field; the wish lends a place to cut from."""
    put(browser, "wish", value)
    browser.find_element(By.ID, "wish").send_keys(Keys.CONTROL, "ax")
    field = browser.find_element(By.ID, "history")
    field.clear()
    field.send_keys(Keys.CONTROL, "v")


def past(browser: Chrome) -> list[str]:
    """All lines at once: they may be replaced meanwhile."""
    script = "return [...document.querySelectorAll('#past li')].map(each => each.innerText)"
    return [" ".join(each.split()) for each in browser.execute_script(script)]


def test_a_pasted_history_is_seen(page: Chrome, service: Served, tmp_path: Path):
    """With titles, times and types, newest first, as soon as it is pasted; what is unknown is named once."""
    events = [{"item": "22423", "time": 1_323_340_000, "type": "purchase"}, "none", {"item": "84879"}, "none"]
    paste(page, json.dumps(events))
    until(page, lambda: "newest first" in text(page, "past-note"))
    cakestand = "Regency Cakestand 3 Tier · purchase 2011-12-08"
    assert past(page) == ["Assorted Colour Bird Ornament", cakestand]
    assert text(page, "past-note") == "2 of 4 events, newest first. Not in the catalogue: “none”."
    assert page.find_element(By.ID, "past-note").get_attribute("role") == "status"
    screenshots(page, tmp_path)
    page.find_element(By.ID, "python").click()
    copied_text = page.find_element(By.ID, "copied").get_attribute("data-text")
    assert '[{"item": "22423", "time": 1323340000, "type": "purchase"}, "none", ' in copied_text


def test_a_typed_history_is_seen_instead_of_the_user(page: Chrome):
    """By keyboard alone, and the user again when it is gone."""
    put(page, "user", USER + Keys.TAB)
    until(page, lambda: len(past(page)) > 3)
    of_user = past(page)
    page.switch_to.active_element.send_keys("22423, 84879 22423", Keys.TAB)
    until(page, lambda: len(past(page)) == 3)
    assert past(page)[::2] == ["Regency Cakestand 3 Tier"] * 2 and "2011" not in text(page, "past")
    assert page.switch_to.active_element.get_attribute("id") == "past"  # it is scrolled by keyboard
    put(page, "history", " ".join(f"no-{at}" for at in range(8)) + Keys.TAB)
    until(page, lambda: "0 of 8" in text(page, "past-note"))
    assert text(page, "past-note").endswith("“no-3”, “no-4” and 3 more.")
    put(page, "history", " ".join(["22423"] * 240) + Keys.TAB)
    until(page, lambda: "100 of 240" in text(page, "past-note"))
    page.find_element(By.ID, "history").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE, Keys.TAB)
    until(page, lambda: past(page) == of_user)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('["22423"', "begins with [ and is no JSON list"),
        ('["22423", 84879]', "event 2 of the history has no item id in quotes"),
        ("[null]", "event 1 of the history has no item id"),
        ("x" * 257, "at most 256 characters"),
    ],
)
def test_a_history_that_cannot_be_read(page: Chrome, value: str, said: str):
    paste(page, value)
    until(page, lambda: said in text(page, "past-note"))
    assert past(page) == []
    if value.startswith("["):
        for button in ("button.main", "#curl"):
            page.find_element(By.CSS_SELECTOR, button).click()
            until(page, lambda: said in text(page, "problem"))


def test_hostile_titles_and_ids(browser: Chrome, tiny_bundle: Path, tmp_path: Path):
    """They are shown as they are written: no element comes of them, nothing turns around or runs out."""
    title = "<img src=x onerror=document.title='broken'> \u202eevil " + "x" * 150
    ids = ["<script>document.title='broken'</script>", "\u202eabc", "y" * 200]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get_log("browser")  # what pages before it had to say
    with served(copied(tiny_bundle, tmp_path)) as running:
        added = running.post("/v1/items", {"add": [{"id": "<b>", "title": title}]})
        assert added.status_code == 200, added.text
        assert running.post("/v1/items", {"retire": ["<b>"]}).status_code == 200
        browser.get(running.url)
        paste(browser, json.dumps(["<b>", *ids]))
        until(browser, lambda: "newest first" in text(browser, "past-note"))
        assert past(browser) == [f"{title} · retired"]
        assert text(browser, "past-note").endswith(f"“{ids[0]}”, “{ids[1]}”, “{'y' * 40}…”.")
        made = {each.tag_name for each in browser.find_elements(By.CSS_SELECTOR, "#past *, #past-note *")}
        assert made == {"li", "span", "bdi"} and browser.title == "llmrec"
        screenshots(browser, tmp_path)
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []


def test_limits_of_the_catalogue_are_ticked(page: Chrome, service: Served, tmp_path: Path):
    """Categories and attributes as the catalogue has them; what is shown is what the API says."""
    put(page, "history", "22423, 84879")
    for summary in page.find_elements(By.CSS_SELECTOR, "#facets summary"):
        summary.click()
    tick = "#facets input[data-{}][value='{}']"
    page.find_element(By.CSS_SELECTOR, tick.format("attribute=colour", "Red")).click()
    page.find_element(By.CSS_SELECTOR, tick.format("attribute=colour", "Pink")).click()
    page.find_element(By.CSS_SELECTOR, tick.format("without=categories", "Baking")).click()
    shown = [each.text for each in page.find_elements(By.CSS_SELECTOR, "#facets summary")]
    assert shown == ["Nothing from these categories (1 ticked)", "One of these: colour (2 ticked)"]
    limits: dict[str, Any] = {"not_categories": ["Baking"], "attributes": {"colour": ["Pink", "Red"]}}
    listed_as(page, service, limits)
    Select(page.find_element(By.ID, "category")).select_by_value("Bags & shoppers")
    listed_as(page, service, limits | {"categories": ["Bags & shoppers"]})
    screenshots(page, tmp_path)
    assert [each for each in page.get_log("browser") if each["level"] == "SEVERE"] == []


def listed_as(page: Chrome, service: Served, limits: dict[str, Any]) -> None:
    expected = [
        each["title"] for each in service.ask(history=["22423", "84879"], filters=limits, k=5)["items"]
    ]
    assert expected
    page.find_element(By.CSS_SELECTOR, "button.main").click()
    until(page, lambda: titles(page) == [expected])


def test_ranges_of_numbers(page: Chrome):
    """A bound that is left out is the catalogue's own."""
    facet = {"values": [{"value": "1999", "items": 1}], "distinct": 1, "low": 1919, "high": 2000}
    none = {"values": [], "distinct": 0, "low": None, "high": None}
    found = {"categories": none, "attributes": {"year": facet, "size": facet}, "bundle": "x"}
    page.execute_script("showFacets(arguments[0])", found)
    put(page, "low-year", "1990")
    filters = page.execute_script("const filters = {}; facetFilters(filters); return filters;")
    assert filters == {"attributes": {"year": ["1990-2000"]}}


def test_a_key_that_may_only_ask(browser: Chrome, tiny_bundle: Path, tmp_path: Path):
    """It sees no users, and what answers, what can be ticked, and lists all the same."""
    key = add_key(tmp_path / "keys.json", ["ask"])
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    with served(copied(tiny_bundle, tmp_path), keys=tmp_path / "keys.json") as running:
        browser.get(running.url)
        until(browser, lambda: "give an API key" in text(browser, "about"))
        put(browser, "key", key + Keys.TAB)
        until(browser, lambda: text(browser, "about") == "Asking bundle@1")
        assert browser.find_elements(By.CSS_SELECTOR, "#facets input")
        browser.find_element(By.CSS_SELECTOR, "button.main").click()
        until(browser, lambda: titles(browser) and len(titles(browser)[0]) == 5)
        assert text(browser, "problem") == ""


def test_a_mistake_is_said(page: Chrome):
    put(page, "user", "nobody")
    page.find_element(By.CSS_SELECTOR, "button.main").click()
    until(page, lambda: "is not known" in text(page, "problem"))
    assert page.find_element(By.ID, "problem").get_attribute("role") == "alert"


def test_for_keyboard_and_screen_reader(page: Chrome):
    """Every field has a name and is reached by Tab; the first stop leads past the form."""
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('input, textarea, button, select')]"
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
