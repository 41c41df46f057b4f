"""What every refusal of a script has in common."""

from collections.abc import Callable

import pytest


def refusal(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture
) -> str:
    """The one line on standard error with which a script refuses arguments: exit code 2, and
    nothing else is said."""
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse's own way out
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err
