"""The cooldown probe: a short annealed copy beside a run that goes on untouched."""

from __future__ import annotations

import pytest

from trainable import train
from trainable.cooldown import cooldown, probe_batches


def test_probe_leaves_the_run_untouched(tiny, config):
    """A run with a probe after every epoch reports the same numbers, to the bit, as one without."""
    run = config(averaging={"kind": "ema", "decay": 0.9})
    plain = [(r.per, r.val_loss, r.train_loss) for r in train(run, tiny)]
    probed = []
    for report in train(run, tiny):
        if report.batch < run.training.batches:
            cooldown(run, tiny, report.checkpoint(), 2)
        probed.append((report.per, report.val_loss, report.train_loss))
    assert probed == plain


def test_probe_anneals_from_the_run_s_own_rate(tiny, config):
    """The probe's last batch is near the end rate, and only its end is evaluated."""
    run = config()
    report = next(train(run, tiny))
    probe = cooldown(run, tiny, report.checkpoint(), 4)
    assert probe.batch == 8
    assert probe.lr < 0.3 * report.lr
    assert probe.per == cooldown(run, tiny, report.checkpoint(), 4).per


def test_probe_is_no_longer_than_what_it_probes(tiny, config):
    """A probe of more batches than the run has done is refused."""
    run = config()
    report = next(train(run, tiny))
    with pytest.raises(ValueError, match="1 to 4 more, not 5"):
        cooldown(run, tiny, report.checkpoint(), 5)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (4, 1), (5, 2), (100, 25)])
def test_probe_length_is_a_share_of_the_batches_done(batch, length):
    """A quarter of the batches done, rounded up."""
    assert probe_batches(batch, 0.25) == length
