"""The search with this program."""

import tuner


def search(space: str, data: str, trials: int, workers: int, seed: int, folder: str) -> None:
    """Search `space` on `data`."""
    tuner.search(space, data=data, study="peer", seed=seed, trials=trials, concurrent=workers, results=folder)
