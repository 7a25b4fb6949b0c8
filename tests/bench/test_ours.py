"""Our sides of the bench fit the library: nothing else runs them before somebody waits for figures."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TRY = """
nobody = object()
import bench.ours.policy, bench.ours.ppo
assert bench.ours.ppo.publisher_of(nobody, nobody, nobody).published is None
"""


def test_our_sides_import_and_their_publisher_is_what_the_trainer_offers() -> None:
    ended = subprocess.run([sys.executable, "-c", TRY], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
