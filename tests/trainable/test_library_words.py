"""What libraries advise to programmers is not passed on: nobody is told to trust a file that was refused."""

import pickle

import numpy as np
import pytest
import torch

from search_spaces import InputError
from search_spaces.wording import reason_of
from trainable.checkpoint import load


class Foreign:
    """What torch refuses to read."""


@pytest.mark.parametrize("how", ["torch", "pickle", "text"])
def test_a_foreign_checkpoint_is_told_without_advice(how, tmp_path):
    """torch says how to load it nevertheless; our line does not."""
    path = tmp_path / "x.pt"
    if how == "torch":
        torch.save({"a": Foreign()}, path)
    else:
        path.write_bytes(pickle.dumps(Foreign()) if how == "pickle" else b"hello")
    with pytest.raises(InputError) as caught:
        load(path)
    said = str(caught.value).lower()
    assert "\n" not in said and "not a checkpoint of this program" in said
    assert not any(word in said for word in ("trust", "weights_only=", "you can", "allowlist", "http"))


def test_the_first_line_without_advice():
    """numpy's and torch's own words; what has no advice stays as it is."""
    with pytest.raises(ValueError) as caught:
        np.load(__file__, allow_pickle=False)
    assert "allow_pickle" not in reason_of(caught.value) and "trust" not in reason_of(caught.value)
    assert reason_of(ValueError("bad magic\nsecond")) == "bad magic"
    assert reason_of(KeyError()) == "KeyError"
