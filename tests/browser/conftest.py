"""One Chromium for all browser tests."""

import os
from pathlib import Path

import pytest

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",  # there is none: its emulation takes the cores from the pages
]


def pytest_collection_modifyitems(items):
    """On a machine without Chromium these tests are skipped; with CI set they fail instead."""
    if Path(CHROMIUM).exists() or os.environ.get("CI"):
        return
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=f"no browser at {CHROMIUM}; in CI it must be there"))


@pytest.fixture(scope="package")
def browser():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # as long as the other waits: the page may have to share two cores with other tests
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
