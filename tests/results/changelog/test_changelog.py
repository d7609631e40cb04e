"""The changelog page: written from the tables alone, it finds what the hand-kept page misses and claims no more."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results.changelog.effects import effects
from results.changelog.findings import findings
from results.changelog.page import changelog, md, write_page
from results.changelog.run_history import RunHistory
from search_spaces.errors import InputError
from tuner.cli import main

BASE = {
    "model": {"hidden": 128, "layer_norm": False},
    "optimizer": {"kind": "adam", "eps": 0.1},
    "schedule": {"kind": "warmup_cosine", "peak_lr": 0.002, "end_lr": 1e-5, "warmup_batches": 100, "horizon": None},
    "averaging": {"kind": "ema", "decay": 0.9995},
    "augmentation": {"white_noise": 0.3, "input_dropout": 0.0},
    "training": {"batches": 1000, "batches_per_epoch": 100, "clip": 1.0, "accumulation": 2, "precision": "bf16"},
}


def settings(**changes: Any) -> dict[str, Any]:
    """BASE with values changed by `section_key`."""
    made = {section: dict(values) for section, values in BASE.items()}
    for name, value in changes.items():
        section, key = name.split("_", 1)
        made[section][key] = value
    return made


@pytest.fixture
def study(tmp_path, studies):
    """Makes a study of runs: dicts of run, pers, config and the fields of `trial_started` and `trial_ended`."""

    def make(runs: list[dict[str, Any]], name: str = "s", **about: Any) -> Path:
        data = {"name": "syn", "path": "p", "fingerprint": "f", "val_phonemes": 24_700}
        events = [studies.started(**{"data": data, "searcher": {"kind": "tpe", "startup_trials": 2}, **about})]
        for number, run in enumerate(runs):
            run = dict(run)
            epochs, pers = run.pop("epochs", {}), run.pop("pers", [])
            ended = {key: run.pop(key) for key in ("best_per", "last_per", "batches") if key in run}
            status, config = run.pop("status", "completed"), run.pop("config", BASE)
            first, *rows, last = studies.trial(number, pers, status=status, config=config, seed=run.pop("seed", 0))
            origin = "recorded" if "run" in run else "searched"
            events += [{**first, "origin": origin, **run}, *({**row, **epochs} for row in rows), {**last, **ended}]
        studies.write_log(tmp_path / name, events)
        return tmp_path

    return make


@pytest.fixture
def history(study):
    return lambda runs, **about: RunHistory.load(study(runs, **about), "s")


def kinds(history: RunHistory) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in findings(history):
        found.setdefault(finding.kind, []).append(finding.text)
    return found


def run(name: str, per: float | None = None, parent: str | None = None, purpose: str = "", **fields: Any) -> dict:
    result = {} if per is None else {"best_per": per, "last_per": per}
    config = settings(**{key: fields.pop(key) for key in list(fields) if key.split("_")[0] in BASE})
    return {"run": name, "parent": parent, "purpose": purpose, "config": config, **result, **fields}


# ---- the recorded history


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    from tuner.planned.past import add_recorded

    folder = tmp_path_factory.mktemp("results")
    add_recorded(folder, "recorded")
    return folder


def test_the_recorded_history_is_seen_through(recorded):
    """From the tables alone: the repeats, the incomplete, the contradictions, the wrong beam, the test set."""
    found = kinds(RunHistory.load(recorded, "recorded"))
    for pair in (
        "gru_ctc_reg6 and gru_ctc_reg7",
        "run8_recovery and run10_recovery",
        "run16_greedy_ema_warmcos and run16_2",
    ):
        assert any(text.startswith(pair) for text in found["Identical configurations"])
    against = found["Purpose against configuration"]
    assert any(text.startswith("run16_5:") and "0.999'" in text and "0.9995" in text for text in against)
    assert any(text.startswith("run13_onecycle_safe:") and "0.01 is lower than 0.004" in text for text in against)
    assert any(text.startswith("run17_") and "'Stronger EMA'" in text for text in against)
    beam = found["Beam search far from greedy"]
    assert [text.split(":")[0] for text in beam] == [
        "run11_plateau_break",
        "run15_warmup_cosine_safe",
        "run16_5",
    ]
    incomplete = " ".join(found["Incomplete runs"])
    assert "run16_2: interrupted" in incomplete
    assert "run18_long_sgdr_swa: interrupted" in incomplete
    assert any("test set" in text for text in found["Selection on the set that is reported"])
    assert any(text.startswith("gru_ctc_reg1") for text in found["Collapse"])


def test_the_recorded_best_run_is_the_baseline(recorded):
    """The page's best run has no greedy PER; the lowest one recorded is the baseline's, tied with run16_4's."""
    text = changelog(recorded, "recorded").text
    best = text[text.index("## Best configuration") : text.index("## What a page")]
    assert "**speechBaseline4**: 0.2046" in best
    assert "It is a tie with: run16_4 (0.2078)" in best
    assert "run16_5" not in best


def test_differences_inside_the_noise_are_ties(recorded):
    """run16_3 against run16_2 (whose result is void, so against its twin) and run16_4 against run16_3 are ties."""
    text = changelog(recorded, "recorded").text
    ties = text[text.index("### Ties") : text.index("### Not known")]
    assert "run16_3 against run16_greedy_ema_warmcos: a tie, 0.0011 lower" in ties
    assert "run16_4 against run16_3: a tie, 0.0006 lower" in ties
    worked = text[text.index("### What worked") : text.index("### What did not work")]
    assert "run15_warmup_cosine_safe against run11_plateau_break: better" in worked
    assert "settings changed at once" in worked


def test_the_page_has_the_form_of_the_one_kept_by_hand(recorded):
    """Phases in order, a section for each run with its changes, purpose and result, a summary and a timeline."""
    text = changelog(recorded, "recorded").text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:2] == ["Baseline", "Phase 1: Initial Experiments"]
    assert headings[-4:] == [
        "Summary of what was learnt",
        "Best configuration",
        "What a page kept by hand misses",
        "Timeline",
    ]
    section = text[text.index("### run16_4\n") : text.index("### run16_5\n")]
    assert "**Changes from run16_3**" in section
    assert "- schedule.peak_lr: 1.4e-3 (was 1.6e-3)" in section
    assert "**Result:** 0.2078 ± 0.0090" in section


# ---- single findings


def test_a_right_history_has_no_contradictions(history):
    """Purposes that agree with their configurations, in several wordings, are not flagged."""
    purpose = "Warmup→Cosine (no OneCycle), EMA=0.9995, bf16/amp, grad_accum=2, clip=1.0, lower peak LR (0.002), no SWA"
    runs = [run("a", 0.3, schedule_peak_lr=0.004), run("b", 0.2, "a", purpose)]
    assert "Purpose against configuration" not in kinds(history(runs))


@pytest.mark.parametrize(
    ("purpose", "said"),
    [
        ("EMA 0.999", "averaging.decay is 0.9995"),
        ("max_lr=0.01", "schedule.peak_lr is 0.002"),
        ("baseline LR (0.02)", "schedule.peak_lr is 0.002"),
        ("Clip=5.0", "training.clip is 1"),
        ("accumulation 4", "training.accumulation is 2"),
        ("noise (0.8)", "white_noise is 0.3"),
        ("warmup=1500", "warmup_batches is 100"),
        ("fp32 throughout", "precision is bf16"),
        ("OneCycleLR", "schedule.kind is warmup_cosine"),
        ("SWA at the end", "averaging.kind is ema"),
        ("with LayerNorm", "which is off"),
        ("a tiny input dropout", "which is off"),
        ("higher peak LR", "went from 0.004 (a) to 0.002"),
        ("a longer warm-up", "warmup_batches is 100 as in a"),
        ("tighter clipping", "training.clip is 1 as in a"),
    ],
)
def test_a_purpose_that_contradicts_its_configuration(history, purpose, said):
    """Numbers, terms and comparisons with the parent that are not so are flagged, each once, with what is so."""
    runs = [run("a", 0.3, schedule_peak_lr=0.004), run("b", 0.2, "a", purpose)]
    (text,) = kinds(history(runs))["Purpose against configuration"]
    assert text.startswith("b: ")
    assert said in text


def test_a_run_again_at_another_scale_is_held_against_the_first_that_said_so(history):
    """Where decays were scaled, `EMA=0.999` means what the first run that says it has; precision is the machine's."""
    said = "EMA=0.999, bf16"
    runs = [
        run("a", 0.3, None, said, averaging_decay=0.98, training_precision="fp32", origin="replicate"),
        run("b", 0.3, "a", said, averaging_decay=0.98, training_precision="fp32", origin="replicate", model_hidden=64),
        run("c", 0.3, "b", said, averaging_decay=0.99, training_precision="fp32", origin="replicate"),
    ]
    (text,) = kinds(history(runs))["Purpose against configuration"]
    assert text.startswith("c: ")
    assert "0.99" in text


def test_collapse_is_dated(history):
    """A run that ends in blanks is flagged with the epoch since when; one stopped in CTC's first blanks is not."""
    runs = [
        run("fell", pers=[0.95, 0.5, 0.93, 0.96], epochs={"blank_share": 0.99}),
        run("never", pers=[0.95] * 10, epochs={"blank_share": 0.7}, model_hidden=64),
        run("early", pers=[1.0, 1.0], epochs={"blank_share": 1.0}, status="stopped", model_hidden=32),
        run("fine", pers=[1.0, 0.5, 0.3], epochs={"blank_share": 0.8}, model_hidden=16),
    ]
    texts = kinds(history(runs))["Collapse"]
    assert len(texts) == 2
    assert "fell: blank collapse (99% of frames are blank)" in texts[0]
    assert "since epoch 3" in texts[0]
    assert "never: learnt nothing" in texts[1]
    assert "from the first epoch on" in texts[1]


def test_divergence_is_dated(history):
    """Not-a-number and falling back from a good PER are told apart, each with its epoch."""
    runs = [
        run("nan", pers=[0.9, None], status="diverged"),
        run("back", pers=[0.9, 0.3, 0.4], model_hidden=64),
        run("fine", pers=[0.9, 0.3, 0.31], model_hidden=32),
    ]
    texts = kinds(history(runs))["Divergence"]
    assert texts == [
        "nan: the loss or the gradient was NaN or infinite at epoch 2 (batch 200)",
        "back: fell back from 0.3000 at epoch 2 to 0.4000 at epoch 3",
    ]


def test_a_schedule_that_never_completed(history):
    """A horizon beyond the run, or a run that ended before it, is flagged with the rate; a constant rate is not."""
    runs = [
        run("long", pers=[0.5] * 10, schedule_horizon=2000),
        run("short", pers=[0.5] * 5, status="interrupted"),
        run("whole", pers=[0.5] * 10, model_hidden=64),
        run("flat", pers=[0.5] * 5, status="interrupted", schedule_kind="constant"),
    ]
    texts = kinds(history(runs))["Schedules that never completed"]
    assert [text.split(":")[0] for text in texts] == ["long", "short"]
    assert "a schedule for 2000 batches ended after 1000 batches; the rate ended at 1e-2" in texts[0]


def test_equal_configurations_with_other_seeds_are_replicates(history):
    """The same configuration with another seed is no mistake; it measures the noise that ties are judged by."""
    pers = [0.20, 0.22, 0.21, 0.23]
    h = history([run(f"r{seed}", per, seed=seed) for seed, per in enumerate(pers)] + [run("x", 0.2, model_hidden=64)])
    (text,) = kinds(h)["Identical configurations"]
    assert "seeds 0, 1, 2, 3, replicates" in text
    assert h.measured
    assert h.seed_sd(h.trials[0]) == pytest.approx(0.0129, abs=1e-4)
    assert h.compare(h.trials[0], h.trials[4]).verdict == "tie"
    assert "One seed each" not in kinds(h)


def test_the_assumed_noise_is_the_published_one(history):
    """At PER 0.2046 on 24,700 phonemes: 0.0013 over seeds, 0.0044 over sentences, and 0.0036 between two runs."""
    h = history([run("a", 0.2046), run("b", 0.2081, "a", model_hidden=64), run("c", 0.2084, "a", model_hidden=32)])
    a, b, c = h.trials
    assert h.seed_sd(a) == pytest.approx(0.0013, abs=2e-5)
    assert h.interval(a) == pytest.approx(1.96 * (0.0013**2 + 0.0044**2) ** 0.5, abs=1e-4)
    assert (h.compare(a, b).verdict, h.compare(a, c).verdict) == ("tie", "worse")


def test_a_run_is_compared_with_the_nearest_ancestor_that_has_a_result(history):
    """A parent without a PER, or an interrupted one, is passed over; a cycle of parents ends."""
    h = history(
        [
            run("a", 0.3),
            run("b", None, "a", model_hidden=64),
            run("c", 0.9, "b", status="interrupted", model_hidden=32),
            run("d", 0.2, "c", model_hidden=16),
            run("e", 0.2, "f", model_hidden=8),
            run("f", None, "e", model_hidden=4),
        ]
    )
    assert h.rival(h.trials[3])["run"] == "a"
    assert h.rival(h.trials[4]) is None


# ---- searches


def searched(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Trials whose PER falls by 0.05 with EMA and by nothing with noise, and varies by 0.004 otherwise."""
    draw = random.Random(seed)
    runs = []
    for _ in range(count):
        ema, rate, noise = draw.random() < 0.5, draw.uniform(1e-3, 4e-3), draw.uniform(0, 1)
        per = 0.3 - 0.05 * ema + 20 * abs(rate - 0.002) + draw.gauss(0, 0.004)
        config = settings(
            schedule_peak_lr=rate,
            augmentation_white_noise=noise,
            **({} if ema else {"averaging_kind": "none", "averaging_decay": None}),
        )
        stop = draw.random() < 0.3
        curve = [0.9, per + 0.2, *([] if stop else [per])]
        runs.append({"pers": curve, "config": config, "status": "stopped" if stop else "completed"})
    return runs


def test_what_a_search_shows_of_each_setting(history):
    """A real effect is found with its size inside the interval; a setting that does nothing is a tie."""
    found = {effect.contrast.split(" ")[0]: effect for effect in effects(history(searched(60)))}
    ema = found["averaging.kind"]
    sign = -1 if "ema instead of none" in ema.contrast else 1
    assert ema.verdict == ("better" if sign < 0 else "worse")
    assert abs(ema.difference - 0.05 * sign) < ema.half
    assert found["augmentation.white_noise"].verdict == "tie"


def test_settings_that_do_nothing_are_rarely_anything_but_ties(history):
    """Of 30 studies in which nothing has an effect, at most four show one (95% of such studies should show none)."""
    wrong = 0
    for seed in range(30):
        draw = random.Random(seed)
        runs = []
        for _ in range(30):
            config = settings(
                schedule_peak_lr=draw.random(),
                augmentation_white_noise=draw.random(),
                model_hidden=draw.choice([64, 128]),
                optimizer_kind=draw.choice(["adam", "adamw"]),
            )
            runs.append({"pers": [0.3 + draw.gauss(0, 0.01)], "config": config})
        found = effects(history(runs))
        assert len(found) == 4
        wrong += any(effect.verdict != "tie" for effect in found)
    assert wrong <= 4


def test_settings_that_change_together_are_one_contrast(history):
    """A batch size that always comes with its accumulation is not counted as two effects."""
    runs = []
    for number in range(24):
        both = {"training_accumulation": 1, "training_clip": 5.0} if number % 2 else {}
        config = settings(model_hidden=100 + number, **both)
        runs.append({"pers": [0.3 - 0.01 * (number % 2) + 0.001 * (number % 5)], "config": config})
    contrasts = [e.contrast for e in effects(history(runs)) if "accumulation" in e.contrast or "clip" in e.contrast]
    assert len(contrasts) == 1
    assert "and with it" in contrasts[0]


def test_a_search_page(study):
    """A search is told in tables: start points, random trials, proposals; each against the best before it."""
    runs = [{"pers": [0.9, 0.3], "origin": "start_point"}, *searched(12)]
    text = changelog(study(runs), "s").text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:3] == ["Start points", "First trials, drawn at random", "Proposed by the searcher (tpe)"]
    assert "| trial | PER | epochs | from | what changed | against it |" in text.replace("---:", "---")
    assert "stopped early, before their schedules ended" in text
    assert "contrasts together" in text


def test_empty_and_unfinished_studies_have_a_page(study):
    """A study without trials, and one whose only trial has not reported, give a page and no error."""
    assert "No trial has completed" in changelog(study([]), "s").text
    assert "No trial has completed" in changelog(study([{"pers": [], "status": "failed"}]), "s").text


# ---- the page itself


HOSTILE = "a|b\n# <script>alert(1)</script> [x](javascript:y) `c` *d* \x1b[31m"


def test_hostile_names_do_nothing(study):
    """Markup, table bars, newlines and escape codes in names, purposes, notes and errors are shown, not obeyed."""
    runs = [
        run(HOSTILE, 0.3, None, HOSTILE, phase=HOSTILE, note=HOSTILE, optimizer_kind=HOSTILE),
        run("b", 0.2, HOSTILE, HOSTILE, status="failed", error=HOSTILE),
        {"pers": [0.5], "config": settings(optimizer_kind=HOSTILE)},
    ]
    text = changelog(study(runs, origin_note=HOSTILE), "s").text
    assert "<script>" not in text
    assert "\x1b" not in text
    assert not re.search(r"^# (?!Changelog)", text, re.MULTILINE)
    assert "](javascript" not in text.replace("\\](", "")
    assert all(line.count("|") - line.count("\\|") in (0, 7) for line in text.splitlines())


def test_markdown_of_a_text_is_one_line():
    """Whatever the text, its Markdown has no line break, and underscores inside a word stay readable."""
    assert "\n" not in md("a\n\n# b\r\u2028c")
    assert md("run16_greedy_ema") == "run16_greedy_ema"


def test_writing_the_page(tmp_path):
    """The file is there whole; a place that cannot be written is one line, and leaves nothing."""
    write_page(tmp_path / "page.md", "text ü\n")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "text ü\n"
    with pytest.raises(InputError, match="cannot be written"):
        write_page(tmp_path / "nowhere" / "page.md", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


def test_an_unknown_study_is_one_line(recorded):
    """A misspelt study is refused with the nearest name."""
    with pytest.raises(InputError, match="did you mean recorded") as caught:
        changelog(recorded, "recrded")
    assert len(caught.value.problems) == 1


def test_the_page_needs_no_torch_or_ray(recorded):
    """Writing it imports neither torch, ray, optuna nor pandas."""
    code = (
        "import sys; from results.changelog.page import changelog; "
        f"changelog({str(recorded)!r}, 'recorded'); "
        "print([m for m in ('torch', 'ray', 'optuna', 'trainable', 'tuner') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command(recorded, tmp_path, capsys):
    """`tuner changelog` prints the page, or writes it to --out and says so; a wrong study has status 2."""

    def tuner(*arguments: Any) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["changelog", *map(str, arguments), "--results", str(recorded)])
        return left.value.code, *capsys.readouterr()

    page = tmp_path / "page.md"
    assert tuner("recorded", "--out", page)[1].startswith(f"wrote {page}: 23 trials, ")
    assert tuner("recorded")[1] == page.read_text(encoding="utf-8")
    status, _, error = tuner("nothing")
    assert (status, error.count("\n")) == (2, 1)
