"""What do several processes cost on one machine? python benchmarks/processes.py [--quick]

The same training of minilm, batches of 32, by one process with all cores as threads (ours alone) and by as many processes as there are cores, with a thread each: once with
one memory for all (ours), and once as if no memory could be reserved, so that torch sends the gradients (gloo) and each process steps the optimizer for the whole network.

Every training is a program of its own, started by torchrun, in turns. Counted is the time of its second epoch, which `train` reports, so that imports, loading and the first, slower
steps are counted for nobody. That both learn the same is checked with dropout off: the mean losses of the epochs are compared.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

SETTINGS = { # batches per epoch
    "full": {"batches": 40, "rounds": 5},
    "quick": {"batches": 10, "rounds": 1},
    "tiny": {"batches": 2, "rounds": 1}}
BATCH, MOST = 32, 1.15
ALONE, TOGETHER, SENT = "one process", "ours", "gradients sent" # what is asked for is that ours, together, is hardly slower than one

def learn(batches, dropout, sent, out):
    "What torchrun starts: two epochs; the first process writes the history"
    from cola_nbdev import gradients
    from cola_nbdev.distributed import place
    from cola_nbdev.settings import PLAIN,Config
    from cola_nbdev.training import train
    if sent: gradients.reserve = lambda *arguments: None
    sentences = side_by_side.corpus().train.sample(batches * BATCH, random_state=0)
    run = train(sentences, Config(model="minilm", epochs=2, batch_size=BATCH, validation_fraction=0, dropout=dropout, **PLAIN), progress=False)
    if rank() == 0: Path(out).write_text(json.dumps(run.history), encoding="utf-8")

def history(processes, threads, batches, dropout=None, sent=False):
    "The history of a training in so many processes of so many threads"
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
        found = Path(folder)/"history.json"
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])}
        subprocess.run([sys.executable, *launcher, __file__, "learn", str(batches), json.dumps(dropout), json.dumps(sent), str(found)], env=environment, check=True)
        return json.loads(found.read_text(encoding="utf-8"))

def competitors(settings, cores):
    "Name → function that returns milliseconds per step"
    step = lambda processes, threads, sent=False: 1000 * history(processes, threads, settings["batches"], sent=sent)[1]["training_seconds"] / settings["batches"]
    return {ALONE: lambda: step(1, cores), TOGETHER: lambda: step(cores, 1), SENT: lambda: step(cores, 1, True)}

def main():
    size = side_by_side.chosen_size()
    settings, cores = SETTINGS[size], max(2, side_by_side.machine()["cores"])
    print(f"Processes, {size}: {settings['rounds']} rounds, {cores} cores", flush=True)
    losses = {name: [row["training_loss"] for row in history(processes, threads, SETTINGS["tiny"]["batches"], 0.0, name == SENT)] for name, processes, threads in ((ALONE, 1, cores), (TOGETHER, cores, 1), (SENT, cores, 1))}
    difference = max(abs(one - other) for name in (TOGETHER, SENT) for one, other in zip(losses[ALONE], losses[name], strict=True))
    rounds = side_by_side.interleave(competitors(settings, cores), settings["rounds"], warm_up={"nothing": lambda: None}) # each is a program of its own
    slower = side_by_side.spread(times[TOGETHER] / times[ALONE] for times in rounds)
    side_by_side.result("processes", size, title="Several processes", corpus=side_by_side.corpus().name, unit="ms per step", settings=settings, rounds=rounds, processes=cores,
        losses=losses, largest_loss_difference=difference, slower=slower,
        question=f"What does it cost to train in {cores} processes (ours) instead of one, on the same {cores} cores? minilm, batches of {BATCH}, fp32, {settings['batches'] * BATCH:,} random sentences of {side_by_side.corpus_in_words()}.",
        notes=[f"{cores} processes with one thread each take {side_by_side.in_words(slower, '×')} the time of one process with {cores} threads; at most {MOST}× was asked for.",
               f"Without the common memory, with gradients that are sent, they take {side_by_side.in_words(side_by_side.spread(times[SENT] / times[ALONE] for times in rounds), '×')} the time of one process.",
               f"All learn the same: with dropout off, the mean losses of two epochs differ by at most {difference:.1e}."])

if __name__ == "__main__":
    if sys.argv[1:2] == ["learn"]: learn(int(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5])
    else: main()
