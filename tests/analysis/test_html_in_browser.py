"""The HTML page in Chromium, from file://: it sorts, draws, names, filters, fits a phone, and the console stays empty."""

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mambarec.analysis.html import LivePage, report
from mambarec.analysis.live import Live, unfinished
from mambarec.base.files import write_text

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -e '.[browser]'")

ui = pytest.importorskip("selenium.webdriver.support.ui")
StaleElementReferenceException = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update".split()
)
MODELS = {"BPR": 0.2, "GRCN": 0.4, "LGMRec": 0.3, "MGCN": 0.1, "MambaRec": 0.5}
RUNS, EPOCHS = 50, 200
LIMIT = 5_000_000  # bytes
# Sum of the layout shifts so far, and what was fetched beside the page itself.
SHIFTS = """const done = arguments[0];
new PerformanceObserver((list) => done(list.getEntries().reduce((sum, one) => sum + one.value, 0)))
    .observe({ type: "layout-shift", buffered: true });
setTimeout(() => done(0), 500);"""
FETCHED = (
    "return performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:')).map((one) => one.name)"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium: apt-get install chromium chromium-driver"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1280,900"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, make_record, tmp_path):
    """The browser, with the page of 50 runs open; a test fails when the console says anything."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(RUNS):
        model, level = list(MODELS.items())[i % len(MODELS)]
        rows = [{"epoch": e, "loss": 9 / (e + 1), "valid": {"recall@20": level * e / EPOCHS}} for e in range(EPOCHS)]
        record = make_record(model, level + rng.normal(0, 0.01, 100), seed=i, learner="</script><script>alert(1)</script>")
        record.result.update(best_epoch=EPOCHS - 1, epochs=EPOCHS)
        records.append(replace(record, epochs=rows))
    path = tmp_path / "report.html"
    path.write_text(report(records), encoding="utf-8")
    assert path.stat().st_size < LIMIT
    browser.get(path.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def column(page, number: int) -> list[str]:
    """The texts of a column of the table of performance, its last row apart."""
    rows = "document.querySelector('#test-performance table').tBodies[0].rows"
    script = f"return [...{rows}].map((row) => row.cells[arguments[0]].textContent)"
    return page.execute_script(script, number)


def headings(page):
    return page.find_elements("css selector", "#test-performance th[scope=col]")


def test_a_column_sorts_by_click_and_by_keyboard(page):
    button = headings(page)[2].find_element("tag name", "button")
    by_value = sorted(MODELS, key=MODELS.__getitem__)
    assert column(page, 0) == by_value[::-1]
    assert [one.get_attribute("aria-sort") for one in headings(page)] == [None, None, "descending", None, None]
    button.send_keys("\ue007")  # Enter
    assert column(page, 0) == by_value and headings(page)[2].get_attribute("aria-sort") == "ascending"
    headings(page)[0].find_element("tag name", "button").send_keys(" ")
    assert column(page, 0) == sorted(MODELS, key=str.lower)
    assert [one.get_attribute("aria-sort") for one in headings(page)] == ["ascending", None, None, None, None]
    assert page.find_element("css selector", "tfoot th").text == "Improv."


def test_curves_are_drawn_named_and_filtered(page):
    def curves() -> int:
        return len(page.find_elements("css selector", "#valid .curve"))

    assert curves() == RUNS
    chart = page.find_element("id", "valid")
    page.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", chart)
    width, height = chart.size["width"], chart.size["height"]
    mouse = webdriver.ActionChains(page).move_to_element_with_offset(chart, width // 2 - 10, 14 - height // 2)
    mouse.click().perform()  # near the end of the highest curves, which are at 0.5 * 199 / 200
    readout = page.find_element("id", "readout")
    assert readout.text.startswith("MambaRec seed ") and "epoch 200, recall@20 0.4975, training loss 0.045" in readout.text
    readout.find_element("tag name", "a").click()
    assert len(page.find_elements("css selector", "details.run[open]")) == 1
    page.execute_script("document.querySelector('#models input[value=MambaRec]').click()")
    assert curves() == RUNS * 4 // 5
    page.execute_script("document.getElementById('none').click()")
    assert curves() == 0
    page.execute_script("document.getElementById('all').click()")
    assert curves() == RUNS


BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 26)"}
# The colour of the middle of the first figure of a study, as the browser shows it.
FIGURE = """const done = arguments[0], image = document.querySelector(".pictures img");
image.decode().then(() => {
  const canvas = document.createElement("canvas");
  canvas.getContext("2d").drawImage(image, 0, 0, 1, 1);
  done([image.currentSrc.slice(0, 18), ...canvas.getContext("2d").getImageData(0, 0, 1, 1).data]);
});"""


@contextmanager
def emulated(browser, scheme: str, width: int = 360):
    """A phone, or another width, and a colour scheme."""
    size = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_moves_nothing_and_fetches_nothing(page, scheme):
    with emulated(page, scheme):
        page.refresh()
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
        background = page.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
        assert background == BACKGROUNDS[scheme]
        assert page.execute_async_script(SHIFTS) == 0
        assert page.execute_script(FETCHED) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_of_the_chart_is_cut_off_or_covers_another_part(page, width):
    with emulated(page, "light", width):
        page.refresh()
        boxes = page.execute_script(BOXES)
    assert len(boxes) == len(MODELS) + 1
    for row in boxes:
        assert row[0]["left"] >= 0 and row[-1]["right"] <= width
        assert all(left["right"] <= right["left"] + 1 for left, right in pairwise(row))


# Of each row of the chart, and of the ticks of its axis, the places of what is shown.
BOXES = """const box = (one) => { const range = document.createRange(); range.selectNodeContents(one);
  const { left, right } = (one.matches("svg, text") ? one : range).getBoundingClientRect(); return { left, right }; };
const rows = [...document.querySelectorAll(".ranking tbody tr")];
const shown = [...document.querySelectorAll(".ranking .axis text")].filter((one) => getComputedStyle(one).display !== "none");
return [...rows.map((row) => [row.cells[0], row.querySelector("svg"), ...[...row.cells].slice(2)].map(box)), shown.map(box)];"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_of_the_colour_of_the_page(browser, make_record, tmp_path, scheme):
    for end, colour in {"": "white", "-dark": "black"}.items():
        (tmp_path / f"a{end}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="9" viewBox="0, 0 99 9"><rect width="99" height="9" '
            f'style="fill: {colour}, {colour}; fill: {colour}"/></svg>'
        )
    path = tmp_path / "report.html"
    path.write_text(report([make_record("BPR", [0.1, 0.2])], [tmp_path]), encoding="utf-8")
    with emulated(browser, scheme, 1280):
        browser.get(path.as_uri())
        source, *colour = browser.execute_async_script(FIGURE)
    assert source == "data:image/svg+xml" and colour == {"light": [255] * 4, "dark": [0, 0, 0, 255]}[scheme]
    assert browser.get_log("browser") == []


# a live page


def test_a_live_page_reads_itself_anew_and_stays_where_it_is(browser, make_record, tmp_path):
    run = tmp_path / "results" / "toy" / "LightGCN" / "seed1-0"
    run.mkdir(parents=True)
    settings = {"epochs": 100, "stopping_step": 5, "min_epochs": 0, "valid_metric": "Recall@20"}
    (run / "config.json").write_text(json.dumps({"model": "LightGCN", "dataset": "toy", "seed": 1, **settings}))
    records = [make_record(model, [level] * 50, seed=i) for model, level in MODELS.items() for i in range(4)]
    pages, path = LivePage("toy", [], None, ["recall@20", "ndcg@20"]), tmp_path / "report.html"

    def write(epochs: int, n_records: int, seconds: int | None = 1) -> None:
        rows = [{"epoch": e, "loss": 1.0, "valid": {"recall@20": 0.01 * e}} for e in range(epochs)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        runs = unfinished([tmp_path])
        write_text(path, pages.page(records[:n_records], Live(runs, time.time(), seconds)))

    def wait_for(text: str) -> None:
        ui.WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda driver: text in driver.find_element("tag name", "body").text
        )

    write(0, 0)
    with emulated(browser, "dark"):
        browser.get(path.as_uri())
        wait_for("No run has finished yet.")
        write(3, 18)
        wait_for("3 of at most 100")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        browser.execute_script("document.querySelector('#models input[value=BPR]').click()")
        browser.execute_script("document.querySelectorAll('#test-performance th button')[2].click()")
        browser.execute_script("document.querySelector('details.run').open = true")
        browser.execute_script("scrollTo({ top: 700, behavior: 'instant' })")
        write(7, 20, seconds=None)
        wait_for("7 of at most 100")
        assert browser.execute_script("return scrollY") == 700
        assert browser.execute_script("return document.querySelector('details.run').open")
        assert not browser.execute_script("return document.querySelector('#models input[value=BPR]').checked")
        sorted_by = browser.execute_script("return document.querySelector('#test-performance [aria-sort]').textContent")
        assert sorted_by == "N@20"
        write(9, 20, seconds=None)
        time.sleep(1.5)
        assert "7 of at most 100" in browser.find_element("tag name", "body").text  # the last form does not read itself
    assert browser.get_log("browser") == []
