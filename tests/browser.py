"""A page in a real browser, for the tests of what runs there: no error on it, no request beside the file itself."""

import contextlib
import functools
import shutil

import pytest

RUNNING = []
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@functools.cache
def browser():
    """A headless Chromium, started once; the test is skipped, with the reason, where there is none."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        pytest.skip("no browser test: Playwright is not installed (pip install 'chainrule[browser]')")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    driver = sync_playwright().start()
    try:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
    except Error as error:
        driver.stop()
        why = str(error).splitlines()[0]
        pytest.skip(f"no browser test: no Chromium was found (Debian: apt-get install chromium). {why}")
    RUNNING.append((started, driver))
    return started


def close():
    """Ends the browser: Playwright's event loop, and the processes it talks to, are not for the tests that follow."""
    while RUNNING:
        started, driver = RUNNING.pop()
        started.close()
        driver.stop()
    browser.cache_clear()
    window.cache_clear()


@functools.cache
def window():
    """What the pages of all tests share: they keep nothing in it, and a new one is dear."""
    return browser().new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")


@contextlib.contextmanager
def opened(path, link="", ready=True):
    """The page in a browser of 1280 x 720; nothing may have gone wrong on it, nor been asked for, when it closes."""
    view = window().new_page()
    view.set_default_timeout(10_000)
    wrong, asked = [], []
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    view.on("request", lambda request: asked.append(request.url))
    try:
        if path is not None:
            view.goto(path.as_uri() + link)
            if ready:
                view.wait_for_selector("body[data-ready]")
        yield view
        own = () if path is None else (path.as_uri(), "data:", "about:srcdoc")
        assert wrong == []
        assert [url for url in asked if not url.startswith(own)] == []
    finally:
        view.close()
