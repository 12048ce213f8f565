"""The README shows the whole example consumer."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_consumer_is_shown_whole() -> None:
    _, _, consumer = (ROOT / "examples/consumer.py").read_text().partition('"""\n\n')
    assert consumer in (ROOT / "README.md").read_text()
