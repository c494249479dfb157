"""Starts the server of the pages: `workbench app` runs this file as a process of its own, `python -P serve.py PORT`.

Nothing of the user's working directory counts here: it is not importable (`-P`), and this folder is the working directory, so that
Streamlit reads the `.streamlit/config.toml` beside this file, which wins over the one in the user's home. The process ends as soon as
its standard input is closed, which the system does when `workbench app` ends, however it ends.
"""

import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HEADERS = {
    "content-security-policy": "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
ADDRESS = "127.0.0.1"


class Guarded:
    """ASGI middleware that adds HEADERS to every response: no page may be framed, guess types, or say where a link was clicked."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import MutableHeaders

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)


def with_known_hosts(app: Any) -> Any:
    """The app, which answers nothing under a name of the machine other than those of `allowedHosts`.

    It is called when the server starts. Reading an option before that would make Streamlit warn that its options have changed.
    """
    import streamlit
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return TrustedHostMiddleware(app, allowed_hosts=streamlit.get_option("server.allowedHosts"), www_redirect=False)


def app() -> Any:
    """The pages as an ASGI app."""
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    return App(HERE / "app.py", middleware=[Middleware(Guarded), Middleware(with_known_hosts)])


def _end_with_the_starter() -> None:
    """End this process when standard input is closed: its other end is held by `workbench app` alone."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def main(port: int) -> None:
    """Serve the pages on a port of this machine until told to stop."""
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    if find_spec("workbench") is None:  # a checkout that is not installed
        sys.path.append(str(HERE.parents[1]))
    from workbench.terminal import Visible

    sys.stderr = Visible(sys.stderr)  # what goes wrong in a page is printed with text of the run
    app().run(config={"server.address": ADDRESS, "server.port": port, "server.headless": True, "browser.gatherUsageStats": False})


if __name__ == "__main__":
    main(int(sys.argv[1]))
