"""Week 4, a solution."""
import numpy as np


def mcc(labels, predicted):
    tn, fp, fn, tp = map(int, np.bincount(2 * labels + predicted, minlength=4))
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / below ** .5 if below else 0.


def temperature(labels, logit):
    wrong = np.where(labels == 1, -logit, logit)  # the log-odds of the wrong answer
    grid = .1 * 1.01 ** np.arange(464)
    losses = [np.logaddexp(0, wrong / t).mean() for t in grid]
    return float(grid[np.argmin(losses)])


def threshold(labels, logit):
    values = np.unique(logit)
    scores = [mcc(labels, (logit >= value).astype(int)) for value in values]
    return float(values[np.argmax(scores)])


def report(held_out, reported):
    labels, logit = held_out.label.to_numpy(), held_out.logit.to_numpy()
    line = threshold(labels, logit)
    predicted = (reported.logit.to_numpy() >= line).astype(int)
    return {"temperature": temperature(labels, logit), "threshold": line,
            "mcc": mcc(reported.label.to_numpy(), predicted)}
