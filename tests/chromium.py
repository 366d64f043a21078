"""The browser of the tests and of the screenshots: the Chromium that is installed, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from playwright.sync_api import Browser, Playwright, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    "No Chromium was found, which the tests of the pages need: install it (on Debian: apt install chromium; elsewhere:"
    " .venv/bin/playwright install chromium), or name it in the environment variable CHROMIUM."
)


class MissingChromiumError(Exception):
    """There is no browser; the message says how to get one."""


def find_chromium(playwright: Playwright) -> str:
    """Return the program: that of the variable CHROMIUM, of the system, or of `playwright install`.

    Raises MissingChromiumError.
    """
    names = [named] if (named := os.environ.get("CHROMIUM")) else [*_NAMES, playwright.chromium.executable_path]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise MissingChromiumError(MISSING)
    return str(Path(found).resolve())


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run a browser without a window, until the end. Raises MissingChromiumError."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(playwright))
        yield browser
        browser.close()


class _Chromium:
    """The one browser of a run of the tests. It is there from the first one that asks until `stop`."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._browser: Browser | None = None

    def start(self) -> Browser:
        """Return it, started if it is not there. Raises MissingChromiumError."""
        if self._browser is None:
            # With Playwright's event loop in the main thread Django takes every test for asynchronous code.
            self._running.enter_context(patch.dict(os.environ, DJANGO_ALLOW_ASYNC_UNSAFE="1"))
            self._browser = self._running.enter_context(running_chromium())
        return self._browser

    def stop(self) -> None:
        """End it and the loop, so that tests with a loop of their own can follow."""
        self._browser = None
        self._running.close()


CHROMIUM = _Chromium()
