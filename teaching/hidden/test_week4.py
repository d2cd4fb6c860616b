"""Week 4: what is fitted, and on which sentences."""
import numpy as np
import pandas as pd
import pytest


def made_up(size, seed, sharp=1., shift=0., share=.5):
    "Labels and log-odds; without sharp and shift the log-odds are calibrated"
    rng = np.random.default_rng(seed)
    true = rng.normal(np.log(share / (1 - share)), 2, size)
    label = (rng.random(size) < 1 / (1 + np.exp(-true))).astype(int)
    return pd.DataFrame({"label": label, "logit": sharp * true + shift})


def arrays(frame): return frame.label.to_numpy(), frame.logit.to_numpy()


def test_temperature_is_found(submission):
    for sharp in (.5, 1, 3):
        found = submission.temperature(*arrays(made_up(5_000, 0, sharp)))
        assert found == pytest.approx(sharp, rel=.1)


def test_temperature_is_that_of_the_package(submission):
    from cola_nbdev.calibration import fit_temperature
    frame = made_up(500, 1, 2)
    found = submission.temperature(*arrays(frame))
    assert found == pytest.approx(fit_temperature(*arrays(frame)), rel=.02)


def test_the_threshold_is_the_best_for_mcc(submission):
    from cola_nbdev.evaluation import mcc
    for share in (.5, .85):
        label, logit = arrays(made_up(400, 2, shift=1.5, share=share))
        best = max(mcc(label, logit >= value) for value in logit)
        assert mcc(label, logit >= submission.threshold(label, logit)) == pytest.approx(best)


def test_the_reported_labels_decide_nothing(submission):
    held_out, reported = made_up(300, 3, 2, 1), made_up(300, 4, 2, -1)
    turned = reported.assign(label=1 - reported.label)
    first, second = (submission.report(held_out, each) for each in (reported, turned))
    for name in ("temperature", "threshold"): assert first[name] == second[name]


def test_the_score_is_of_the_reported_split(submission):
    from cola_nbdev.evaluation import mcc
    held_out, reported = made_up(300, 5, 2, 1), made_up(300, 6, 2, 0)
    found = submission.report(held_out, reported)
    expected = mcc(reported.label, reported.logit >= found["threshold"])
    assert found["mcc"] == pytest.approx(expected)
    turned = reported.assign(label=1 - reported.label)
    assert submission.report(held_out, turned)["mcc"] == pytest.approx(-expected)


def test_what_is_given_stays_as_it_is(submission):
    held_out, reported = made_up(50, 7), made_up(50, 8)
    before = held_out.copy(), reported.copy()
    submission.report(held_out, reported)
    assert before[0].equals(held_out) and before[1].equals(reported)
