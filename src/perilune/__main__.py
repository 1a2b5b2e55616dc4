"""Start the command line: the script ``perilune`` and ``python -m perilune``."""

import signal


def run() -> None:
    """Run the command line. Until its modules are imported, Ctrl-C ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # perilune.cli restores the handler
    from perilune.cli import main  # noqa: PLC0415 -- takes time, during which the user may press Ctrl-C

    main()


if __name__ == "__main__":
    run()
