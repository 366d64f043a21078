"""`python deploy/link_client.py`: have this environment import our own client from where it lies, `client/src`.

That is what an editable installation does, too. Nothing is built, so no lock needs a build tool.
"""

import sysconfig
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "client" / "src"


def main() -> None:
    """Write the file that Python reads when it starts in this environment."""
    Path(sysconfig.get_path("purelib"), "flowplatform-client.pth").write_text(f"{SOURCES}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
