"""The exit codes of the command, and what is said of an error."""

DONE = 0
FAILED = 1  # the server refused, or a replay does not equal its trace
USAGE = 2  # what a shell expects of arguments that cannot be used
UNREACHABLE = 3  # the server did not answer
NOT_SIGNED_IN = 4  # there is no address or token, or they cannot be one, or the token is not valid
ENDED_BADLY = 5  # `watch`: a task failed or was cancelled, or the execution was
BUG = 70  # EX_SOFTWARE: not what anybody wanted
INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


class CommandError(Exception):
    """The command cannot be carried out. The text is one sentence."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def exit_code_of(error: Exception) -> int:
    """Return what the command ends with."""
    import click

    from flowplatform_client import errors

    match error:
        case CommandError():
            return error.code
        case click.Abort():
            return INTERRUPTED
        case click.ClickException():
            return error.exit_code
        case errors.UnauthenticatedError() | errors.ConfigurationError():
            return NOT_SIGNED_IN
        case errors.ConnectionFailedError():
            return UNREACHABLE
        case errors.FlowPlatformError() | OSError():
            return FAILED
    return BUG


def sentence_of(error: Exception) -> str:
    """Return one sentence about an error."""
    import click

    from flowplatform_client import errors

    match error:
        case click.Abort():
            return "interrupted"
        case click.ClickException():
            return error.format_message()
        case CommandError() | errors.FlowPlatformError():
            return str(error)
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"this is a bug ({type(error).__name__}: {error}); FLOWPLATFORM_DEBUG=1 shows where"
