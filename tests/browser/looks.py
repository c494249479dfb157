"""A page at rest, and in every look."""

LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
}


def settle(page):
    """Wait until the script has run and what it made is drawn."""
    page.locator("[data-testid=stAppViewContainer]").wait_for()
    page.locator("[data-testid=stMain] :is(h1, h3, [data-testid=stAlert])").first.wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=stApp][data-test-script-state=running]')")
    page.wait_for_function(
        "[...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(one => one.querySelector('.main-svg'))"
        " && !document.querySelector('[data-testid=stSkeleton]') && [...document.images].every(one => one.complete)"
    )


def scrolls_sideways_in_no_look(page, path):
    """Neither the page nor its main part is wider than the window: light, dark and narrow; the pictures stay for looking at."""
    for look, given in LOOKS.items():
        page.set_viewport_size(given["viewport"])
        page.emulate_media(color_scheme=given.get("color_scheme", "light"))
        page.wait_for_timeout(300)  # until it is laid out anew
        settle(page)
        assert page.locator("[data-testid=stMain]").evaluate("main => main.scrollWidth - main.clientWidth") <= 0, look
        assert page.evaluate("document.documentElement.scrollWidth") <= given["viewport"]["width"], look
        page.screenshot(path=f"{path}-{look}.png")
