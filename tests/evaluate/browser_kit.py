"""What every page is held to in a real browser."""

from __future__ import annotations


def open_on_a_phone_without_scripts(browser, page):
    """Open a page as a phone without scripts does; afterwards scripts can be run to look at it."""
    size = {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def backgrounds(browser, page):
    """The page's colour for readers who prefer light, and for those who prefer dark."""
    colours = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(page.as_uri())
        colours.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    return colours


def click(browser, element):
    """Click where the element is: pictures that are still loading may move it between a look and a click."""
    from selenium.common.exceptions import ElementClickInterceptedException
    from selenium.webdriver.support.ui import WebDriverWait

    def clicked(_):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()
        return True

    WebDriverWait(browser, 10, ignored_exceptions=[ElementClickInterceptedException]).until(clicked)
