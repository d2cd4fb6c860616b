"""What do several processes cost on one machine? python benchmarks/processes.py [--quick]

The same run of minilm, batches of 32, in one process with all cores as threads, and in as many
processes as there are cores, one thread each, which average their gradients in every step (DDP,
gloo). Nothing is gained that way on one machine: torchrun is for machines with several GPUs, and
for more machines than one. This says what it costs.

Every run is a program of its own, started by torchrun, in turns. Counted is the time of its second
epoch, which `train` reports: imports, loading and the first, slower steps are counted for nobody.
That both learn the same is checked with dropout off: the mean losses of the epochs are compared.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

SETTINGS = {  # batches per epoch
    "full": {"batches": 40, "rounds": 5},
    "quick": {"batches": 10, "rounds": 1},
    "tiny": {"batches": 2, "rounds": 1}}
BATCH = 32
ALONE, TOGETHER = "one process", "ours"

def learn(batches, dropout, out):
    "What torchrun starts: two epochs; the main process writes the history"
    from cola_nbdev.distributed import rank, shutdown
    from cola_nbdev.settings import PLAIN, Config
    from cola_nbdev.training import train
    sentences = side_by_side.corpus().train.sample(batches * BATCH, random_state=0)
    config = Config(model="minilm", epochs=2, batch_size=BATCH, validation_fraction=0,
                    dropout=dropout, **PLAIN)
    run = train(sentences, config, progress=False)
    if rank() == 0: Path(out).write_text(json.dumps(run.history), encoding="utf-8")
    shutdown()

def history(processes, threads, batches, dropout=None):
    "The history of a run in so many processes of so many threads"
    here = Path(__file__).resolve()
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parent.parent)])}
    launcher = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone",
                    "--nproc_per_node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder)/"history.json"
        subprocess.run([sys.executable, *launcher, str(here), "learn", str(batches),
                        json.dumps(dropout), str(found)], env=environment, check=True)
        return json.loads(found.read_text(encoding="utf-8"))

def competitors(settings, cores):
    "Name → function that returns milliseconds per step"
    batches = settings["batches"]

    def step(processes, threads):
        return 1000 * history(processes, threads, batches)[1]["training_seconds"] / batches

    return {ALONE: lambda: step(1, cores), TOGETHER: lambda: step(cores, 1)}

def main():
    size = side_by_side.chosen_size()
    settings, cores = SETTINGS[size], max(2, side_by_side.machine()["cores"])
    print(f"Processes, {size}: {settings['rounds']} rounds, {cores} cores", flush=True)
    losses = {name: [row["training_loss"] for row in
                     history(processes, threads, SETTINGS["tiny"]["batches"], 0.)]
              for name, processes, threads in ((ALONE, 1, cores), (TOGETHER, cores, 1))}
    difference = max(abs(one - other) for one, other in zip(*losses.values(), strict=True))
    # no warm-up: each run is a program of its own
    rounds = side_by_side.interleave(competitors(settings, cores), settings["rounds"],
                                     warm_up={"nothing": lambda: None})
    slower = side_by_side.spread(times[TOGETHER] / times[ALONE] for times in rounds)
    side_by_side.result(
        "processes", size, title="Several processes", corpus=side_by_side.corpus().name,
        unit="ms per step", settings=settings, rounds=rounds, processes=cores, losses=losses,
        largest_loss_difference=difference, slower=slower,
        question=f"What does it cost to train in {cores} processes (ours) instead of one, on the "
                 f"same {cores} cores? minilm, batches of {BATCH}, fp32, "
                 f"{settings['batches'] * BATCH:,} random sentences of "
                 f"{side_by_side.corpus_in_words()}.",
        notes=[f"{cores} processes with one thread each, which send each other the gradients of "
               f"every step, take {side_by_side.in_words(slower, '×')} the time of one process "
               f"with {cores} threads.",
               "Both learn the same: with dropout off, the mean losses of two epochs differ by at "
               f"most {difference:.1e}."])

if __name__ == "__main__":
    if sys.argv[1:2] == ["learn"]: learn(int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4])
    else: main()
