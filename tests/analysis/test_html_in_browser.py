"""The HTML page in Chromium, from file://: it sorts, draws, names, filters, fits a phone, and the console stays empty."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from analysis.html import report

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -e '.[browser]'")

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
    """The texts of a column of the first table, its last row apart."""
    script = "return [...document.querySelector('table').tBodies[0].rows].map((row) => row.cells[arguments[0]].textContent)"
    return page.execute_script(script, number)


def headings(page):
    return page.find_elements("css selector", "#test-performance th[scope=col]")


def test_a_column_sorts_by_click_and_by_keyboard(page):
    button = headings(page)[2].find_element("tag name", "button")
    by_value = sorted(MODELS, key=MODELS.__getitem__)
    button.click()
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
    assert readout.text.startswith("MambaRec seed ") and "epoch 199, recall@20 0.4975, training loss 0.045" in readout.text
    readout.find_element("tag name", "a").click()
    assert len(page.find_elements("css selector", "details.run[open]")) == 1
    page.execute_script("document.querySelector('#models input[value=MambaRec]').click()")
    assert curves() == RUNS * 4 // 5
    page.execute_script("document.getElementById('none').click()")
    assert curves() == 0
    page.execute_script("document.getElementById('all').click()")
    assert curves() == RUNS


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_moves_nothing_and_fetches_nothing(page, scheme):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    background = page.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 26)"}[scheme]
    assert page.execute_async_script(SHIFTS) == 0
    assert page.execute_script(FETCHED) == []
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
