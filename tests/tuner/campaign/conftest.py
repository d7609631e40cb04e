"""Data with a labelled test split, and campaigns that were asked for."""

from __future__ import annotations

import dataclasses

import pytest

from search_spaces import load_space
from tuner.campaign.record import CampaignAsked


@pytest.fixture(scope="session")
def tested_data(tiny_data, tmp_path_factory):
    """The tiny data with the second half of its validation split as a labelled test split."""
    from trainable.data.dataset import open_dataset
    from trainable.data.packed import write_dataset

    tiny = open_dataset(tiny_data)
    folder = tmp_path_factory.mktemp("tested") / "tested"
    with write_dataset(folder, name="tested", source={}, classes=tiny.classes, bin_ms=20) as writer:
        for name, split in tiny.splits.items():
            for i in range(len(split)):
                begin = int(split.start[i])
                writer.add(
                    tiny.train.matrix[begin : begin + int(split.bins[i])],
                    split="test" if name == "val" and i % 2 else name,
                    session=tiny.days[split.day[i]],
                    labels=split.label(i).tolist(),
                    text="",
                )
    return folder


@pytest.fixture
def asked(space_file):
    """Makes what was asked for, over the toy space of runs of nine epochs: `asked(limit=..., amount=...)`."""
    space = load_space(space_file)

    def make(**changes):
        data = {"path": "nowhere", "name": "none", "fingerprint": "0"}
        first = CampaignAsked(name="c", space=space.as_dict(), data=data, limit="batches", amount=1e6)
        return dataclasses.replace(first, **changes)

    return make
