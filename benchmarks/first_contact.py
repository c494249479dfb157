"""From a clone to the first ablation on screen, as a visitor meets it: seconds of each step, and of later changes in the lab.

Clones this checkout into a temporary folder, sets it up with `make install` in a new environment, starts the app on an empty folder of
runs, and opens the pages in Debian's chromium on the same machine. Takes about four minutes. Seconds are wall time of this machine.
"""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
AFTER = "img[alt^='{} after the ablation']"
MODES = ("mean", "scale", "patch from base", "clamp", "zero")
CHANGED = """([selector, old]) => { const one = document.querySelector(selector);
return one && one.src !== old && !document.querySelector('[data-testid=stProgress]') }"""


def main() -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as place:
        clone, began = Path(place) / "clone", time.perf_counter()
        subprocess.run(["git", "clone", "-q", str(here), str(clone)], check=True)
        subprocess.run(["make", "install"], cwd=clone, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        installed = time.perf_counter()
        print(f"clone and install      {installed - began:6.1f} s", flush=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        words = [str(clone / ".venv" / "bin" / "workbench"), "app", "--port", str(port), "--no-browser"]
        server = subprocess.Popen(words, cwd=clone, stdout=subprocess.DEVNULL)
        try:
            answers(address)
            with sync_playwright() as play:
                browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
                page = browser.new_page(viewport={"width": 1280, "height": 1400})
                page.goto(address)
                page.locator("[data-testid=stMain] h1").first.wait_for(timeout=90_000)
                print(f"app and first page     {time.perf_counter() - installed:6.1f} s", flush=True)
                start = time.perf_counter()
                page.get_by_role("link", name="Ablation lab").first.click()
                page.locator(AFTER.format("pruned")).first.wait_for(timeout=120_000)
                print(f"model, first ablation  {time.perf_counter() - start:6.1f} s", flush=True)
                print(f"from the clone to it   {time.perf_counter() - began:6.1f} s", flush=True)
                for mode in MODES:
                    print(f"change to {mode:15} {change(page, mode):5.1f} s", flush=True)
                browser.close()
        finally:
            server.terminate()
            server.wait(timeout=60)


def change(page, mode: str) -> float:
    """Seconds from a click on a mode until all new pictures are there."""
    page.wait_for_timeout(2000)
    selector = AFTER.format("erased")
    old, start = page.locator(selector).first.get_attribute("src"), time.perf_counter()
    page.get_by_role("radio", name=mode, exact=True).or_(page.get_by_role("button", name=mode, exact=True)).first.click()
    page.wait_for_function(CHANGED, arg=[selector, old], timeout=90_000)
    return time.perf_counter() - start


def answers(address: str) -> None:
    """Wait until the app answers."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit("The app did not answer.")


if __name__ == "__main__":
    main()
