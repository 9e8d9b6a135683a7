"""Files that change are noticed."""

import os
from pathlib import Path

from fastrpc.server.workers.sources import Sources


def test_a_file_that_changes_is_told_once(tmp_path: Path) -> None:
    file, other = tmp_path / "a.py", tmp_path / "b.py"
    file.write_text("1")
    other.write_text("1")
    sources = Sources()
    sources.watch([str(file), str(other)])
    assert len(sources) == 2
    assert sources.changed() == []
    file.write_text("12")
    assert sources.changed() == [str(file)]
    assert sources.changed() == []
    os.utime(other, ns=(1, 1))
    sources.watch([str(other)])  # once more does not make it unchanged
    assert sources.changed() == [str(other)]
    file.unlink()
    assert sources.changed() == [str(file)]
    file.write_text("12")
    assert sources.changed() == [str(file)]
