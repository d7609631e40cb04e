"""The search with plain Ray Tune: its OptunaSearch and its ASHA."""

from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peer_scripts.common import epochs_of
from search_spaces import Space, load_space


def search(space: str, data: str, trials: int, epochs: int, workers: int, seed: int, folder: str) -> None:
    """Search `space` on `data`; a trial has at most `epochs` epochs."""
    searched = load_space(space)

    def train(config: dict[str, Any]) -> None:
        for epoch, per in epochs_of(searched, flat(config), seed, data, folder):
            tune.report({"per": per, "epoch": epoch})

    ray.init(num_cpus=workers, include_dashboard=False)
    scheduler = ASHAScheduler(time_attr="epoch", grace_period=2, reduction_factor=2, max_t=epochs)
    tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="per",
            mode="min",
            num_samples=trials,
            search_alg=OptunaSearch(partial(draw, searched), metric="per", mode="min", seed=seed),
            scheduler=scheduler,
        ),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()


def draw(space: Space, trial: Any) -> None:
    """Draw a point; Tune pickles the function."""
    space.suggest(trial)


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """The names as they were: Tune makes nested dictionaries of those with a slash."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        inside = flat(value) if isinstance(value, dict) else {"": value}
        found |= {f"{name}/{key}".rstrip("/"): each for key, each in inside.items()}
    return found
