"""The `flowplatform` command: look at flows and runs, watch them, tag tasks, replay traces.

Each command is imported when it is used: most of what a short one costs is Python's start.
"""

import os
import sys

from flowplatform_client.cli.exits import BUG, INTERRUPTED, exit_code_of, sentence_of

DEBUG_VARIABLE = "FLOWPLATFORM_DEBUG"  # show where an error comes from


def main() -> int:
    """Run the command of the command line and return its exit code (`exits`). Errors are one sentence each."""
    try:
        from flowplatform_client.cli.commands import cli
    except ModuleNotFoundError as missing:
        return _refuse(f"{missing.name} is not installed: pip install 'flowplatform-client[cli]'", BUG)
    try:
        code = cli.main(prog_name="flowplatform", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _refuse(sentence_of(error), exit_code_of(error))
    return code if isinstance(code, int) else 0


def _refuse(sentence: str, code: int) -> int:
    print(f"flowplatform: {sentence}", file=sys.stderr)
    return code
