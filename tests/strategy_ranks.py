"""What the conformance suite of strategies runs in two processes.

Each rank searches by every strategy, and writes down what it was told of, and what its weights
are in the end.
"""

import json
import os
from pathlib import Path
from typing import Any

import goldnas
from goldnas.searching.strategies import STRATEGIES
from goldnas.training.distributed import init_process_group
from goldnas.training.divergence import fingerprint
from nightly import EXAMPLES
from searches import LIKE_OTHERS, search, settings_of

SINGLE = "gold, single"
"""GOLD-NAS where one operator is left at each place, which works in another way."""

ELSEWHERE = (*LIKE_OTHERS, *(() if EXAMPLES else ("gold",)))
"""GOLD-NAS is what test_ranks.py searches by."""

NAMES = (*(name for name in STRATEGIES if name not in ELSEWHERE), SINGLE)

NOT_COMPARED = ("seconds", "memory_bytes", "peak_memory_bytes", "loop")


def settings_for(name: str) -> dict[str, Any]:
    return settings_of("gold") | {"single": True} if name == SINGLE else settings_of(name)


def run_rank(index: int, port: int, folder: Path) -> None:
    """Be one of two ranks, as torchrun would start it, which test_ranks.py does."""
    ranks = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
    os.environ.update({name: str(value) for name, value in (ranks | place).items()})
    found: dict[str, Any] = {}
    with init_process_group() as ranks:
        for name in NAMES:
            decided: list[Any] = []
            loops: list[Any] = []

            def observe(event: str, fields: dict[str, Any], to: Any = (decided, loops)) -> None:
                if event == "begin":
                    to[1].append(fields["loop"])
                elif event not in ("ready", "step"):
                    kept = {k: v for k, v in fields.items() if k not in NOT_COMPARED}
                    to[0].append([event, kept])

            run = search(folder / name, ranks=ranks, on_event=observe, **settings_for(name))
            assert isinstance(run, goldnas.Run)
            found[name] = {
                "folder": str(run.path),
                "decided": decided,
                "weights": fingerprint(loops[0].learner.module),
            }
        (folder / f"{ranks.index}.json").write_text(json.dumps(found))
