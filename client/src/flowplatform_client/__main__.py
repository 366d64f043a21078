"""`python -m flowplatform_client` is the `flowplatform` command."""

import sys

from flowplatform_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
