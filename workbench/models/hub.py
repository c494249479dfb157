"""Is the hub in reach? Decided at once, so that an offline machine does not wait for retries.

unreachable   why the hub cannot be asked, or None
cached        is any part of a repository in the local cache?
"""

import threading
from pathlib import Path

from workbench.errors import first_line

SECONDS = 5


def unreachable(seconds=SECONDS):
    """Why the hub cannot be asked, or None when it answers; decided within so many seconds."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "it is switched off (HF_HUB_OFFLINE)"
    said = []

    def ask():
        try:
            get_session().head(constants.ENDPOINT, timeout=seconds)
            said.append(None)
        except Exception as error:  # no name, no route, no certificate, a proxy that refuses: each library has errors of its own
            said.append(first_line(error))

    # a thread, because looking up a name knows no timeout
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return said[0] if said else f"no answer within {seconds} s"


def cached(name):
    """Is any part of a repository in the local cache?"""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return (Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")).is_dir()
