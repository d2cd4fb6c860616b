"""Week 3: confusion matrix, MCC, bootstrap. Values by hand, then those of the package."""
import numpy as np
import pytest


@pytest.fixture
def verdicts():
    "Labels and predictions of 300 sentences; four in five are right"
    rng = np.random.default_rng(1)
    labels = (rng.random(300) < .7).astype(int)
    return labels, np.where(rng.random(300) < .8, labels, 1 - labels)


def test_the_counts(submission):
    labels, predicted = np.array([1] * 5 + [0] * 5), np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0])
    assert tuple(submission.confusion(labels, predicted)) == (3, 2, 1, 4)


def test_mcc_by_hand(submission):
    found = submission.mcc(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1]))
    assert found == pytest.approx(1 / 6)  # (2·1 − 1·1) / √(3·3·2·2)
    labels = np.array([1, 0, 1, 0])
    assert submission.mcc(labels, labels) == pytest.approx(1)
    assert submission.mcc(labels, 1 - labels) == pytest.approx(-1)


def test_a_parrot_scores_zero(submission):
    assert submission.mcc(np.array([1, 1, 1, 0]), np.ones(4, dtype=int)) == 0


def test_mcc_is_not_accuracy(submission):
    labels = np.array([1] * 90 + [0] * 10)
    predicted = np.array([1] * 88 + [0] * 2 + [1] * 9 + [0])
    assert submission.mcc(labels, predicted) < .2  # and 89 of 100 are right


def test_mcc_of_many_sentences(submission):
    from cola_nbdev.evaluation import mcc
    rng = np.random.default_rng(0)
    for size in (10, 1_000, 400_000):
        labels, predicted = rng.integers(0, 2, (2, size))
        assert submission.mcc(labels, predicted) == pytest.approx(mcc(labels, predicted), abs=1e-9)


def test_a_label_keeps_its_prediction(submission, verdicts):
    low, high = submission.interval(*verdicts)
    assert low < submission.mcc(*verdicts) < high


def test_the_interval_has_a_width(submission, verdicts):
    from cola_nbdev.evaluation import bootstrap_mcc
    low, high = submission.interval(*verdicts)
    expected = bootstrap_mcc(*verdicts)
    assert high - low == pytest.approx(expected.high - expected.low, rel=.2)


def test_same_seed_same_interval(submission, verdicts):
    assert submission.interval(*verdicts, seed=3) == submission.interval(*verdicts, seed=3)
    assert submission.interval(*verdicts, seed=3) != submission.interval(*verdicts, seed=4)
