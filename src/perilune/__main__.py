"""Start the command line: the script ``perilune`` and ``python -m perilune``."""

import signal


def run() -> None:
    """Run the command line. While Python imports its modules and exits, Ctrl-C ends the process without a traceback."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # perilune.cli restores the handler
    from perilune.cli import main  # noqa: PLC0415 -- takes time, during which the user may press Ctrl-C

    try:
        main()
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    run()
