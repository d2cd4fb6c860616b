"""What can go wrong with a training, done on purpose. `make test` tries a few of each; `make faults` tries many and prints a table.

Every test says how many faults it tried; one that was not survived fails it.
"""
import functools
import http.server
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import faults
import pytest

from cola_nbdev import checkpoints, cli, data, distributed, packing, training
from cola_nbdev.checkpoints import find_corruption,latest_checkpoint,save_checkpoint
from cola_nbdev.basics import ColaError
from cola_nbdev.settings import Config
from cola_nbdev.training import train

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.xdist_group("faults") # they share the undisturbed run

@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "What the training gives when nobody disturbs it, how long it takes, and how many calls a killer has to choose from"
    folder = tmp_path_factory.mktemp("undisturbed")
    faults.run(folder) # the fork server comes up
    shutil.rmtree(folder)
    started = time.monotonic()
    assert faults.run(folder) == 0, (folder/"printed.txt").read_text()
    return faults.result(folder), time.monotonic() - started, int((folder/"calls.txt").read_text())

def ends_as_undisturbed(folder, undisturbed):
    assert faults.run(folder) == 0, (folder/"printed.txt").read_text()
    assert faults.result(folder) == undisturbed[0]
    assert "Traceback" not in (folder/"printed.txt").read_text()
    left = [path.name for path in folder.iterdir() if path.name not in ("run", "promised.txt", "printed.txt", "calls.txt")]
    assert not left, f"left behind: {left}"

def nothing_lost(folder):
    "Every checkpoint that was promised, but for the rotated, is there and whole"
    whole, promised = faults.steps(folder)
    assert not promised or (whole and whole[0] >= promised[-1]), f"promised {promised}, whole {whole}"

# kill -9

@pytest.mark.parametrize("number", range(60 if LONG else 2))
def test_killed_while_a_checkpoint_is_written(tmp_path, undisturbed, tried, number):
    at = random.Random(number).randint(1, undisturbed[2])
    assert faults.run(tmp_path, die_at=at) == -signal.SIGKILL
    if not (tmp_path/"run").exists(): nothing_lost(tmp_path)
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("kill -9 inside the writing, rotation or publishing of checkpoints")

@pytest.mark.parametrize("number", range(60 if LONG else 2))
def test_killed_at_a_random_moment(tmp_path, undisturbed, tried, number):
    faults.run(tmp_path, wait=random.Random(1000 + number).uniform(.1, .95) * undisturbed[1])
    if not (tmp_path/"run").exists(): nothing_lost(tmp_path)
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("kill -9 at a random moment")

def test_killed_again_and_again(tmp_path, undisturbed, tried):
    draws = random.Random(7)
    for _ in range(12 if LONG else 3):
        if faults.run(tmp_path, die_at=draws.randint(30, 150)) == 0: break
        if not (tmp_path/"run").exists(): nothing_lost(tmp_path)
        tried("kill -9 again and again in one training")
    ends_as_undisturbed(tmp_path, undisturbed)

@pytest.mark.parametrize("step", range(1, 28) if LONG else (5, 9, 27)) # in the middle of an epoch, between two, at the very end
def test_it_goes_on_wherever_it_stopped(tmp_path, undisturbed, tried, step):
    assert faults.run(tmp_path, stop_after=step) == 143
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("stopped after a given step")

def test_files_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    "A killed process loses nothing that the system holds; a power cut does. So the order of the calls is looked at"
    import torch
    order, fsync, rename = [], os.fsync, os.rename
    def noting_fsync(descriptor): order.append(("force", Path(os.readlink(f"/proc/self/fd/{descriptor}")))); fsync(descriptor)
    def noting_rename(source, target, **options): order.append(("rename", Path(target))); rename(source, target, **options)
    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    target = save_checkpoint(tmp_path/"checkpoints", 1, {"model": {"a": torch.ones(2)}}, {})
    renamed = order.index(("rename", target))
    forced = [path.name for what, path in order[:renamed] if what == "force"]
    assert set(forced) >= {"model.safetensors", "facts.json", "manifest.json"}, "a file may be empty after a power cut"
    assert forced[-1].startswith(checkpoints.STAGING), "the folder's list of names may be empty after a power cut"
    assert ("force", tmp_path/"checkpoints") in order[renamed:], "the new name may be gone after a power cut"

def test_an_old_checkpoint_goes_only_when_the_new_one_was_found_whole(tmp_path, monkeypatch):
    import torch
    save = functools.partial(save_checkpoint, tmp_path, tensors={"model": {"a": torch.ones(2)}}, facts={}, keep=1)
    save(1)
    commit = checkpoints.commit
    def damaging(staging, target):
        commit(staging, target)
        (target/"model.safetensors").write_bytes(b"")
    monkeypatch.setattr(checkpoints, "commit", damaging)
    with pytest.raises(ColaError, match="model.safetensors is damaged, just after it was written"): save(2)
    assert latest_checkpoint(tmp_path).name == "step-00000001"

# Signals, in the real command

def start(folder, *more):
    command = [sys.executable, "-c", "from cola_nbdev.cli import main; main()", "train", "--model", "tiny", "--epochs", "400", "--out", "run", "--checkpoint-minutes", "0.01", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def until_checkpoint(folder, process):
    while process.poll() is None and not list((folder/"run.unfinished"/"checkpoints").glob("step-*")): time.sleep(.05)

@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_leaves(tmp_path, tried, number, code):
    process = start(tmp_path)
    until_checkpoint(tmp_path, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert error.strip().splitlines()[-1].startswith("cola: stopped in epoch") and "resume with --resume" in error and "Traceback" not in error
    assert latest_checkpoint(tmp_path/"run.unfinished"/"checkpoints")
    refused = start(tmp_path)
    assert "holds an unfinished run; add --resume to resume it, or --overwrite to start over" in refused.communicate(timeout=60)[1]
    other = start(tmp_path, "--resume", "--seed", "7", "--batch-size", "16")
    assert "belongs to another run: batch_size 32 (now 16), seed 42 (now 7)" in other.communicate(timeout=60)[1] and other.returncode == 2
    tried(number.name)

def test_a_second_interrupt_quits_at_once(tmp_path, tried):
    process = start(tmp_path)
    until_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGSTOP) # both arrive while it sleeps; without the pause the first might already have been obeyed
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    tried("SIGINT twice")

def test_an_interrupted_overwrite_goes_on_with_resume_alone(tmp_path, undisturbed, tried):
    from cola_nbdev.prediction import fine_tune
    corpus, config = faults.small()
    fine_tune(corpus, replace(config, seed=1), tmp_path/"run", progress=False)
    with pytest.raises(checkpoints.Stopped, match="and saved in .*; resume with --resume"): interrupted(lambda: fine_tune(corpus, config, tmp_path/"run", overwrite=True, progress=False), 5)
    assert json.loads((tmp_path/"run/metrics.json").read_text())["config"]["seed"] == 1, "the earlier run stays until the new one is complete"
    fine_tune(corpus, config, tmp_path/"run", progress=False, resume=True)
    assert json.loads((tmp_path/"run/metrics.json").read_text())["config"]["seed"] == 42
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and not (tmp_path/"run/overwrites").exists()
    tried("SIGTERM")

def test_a_stop_in_the_last_step_or_without_room_says_so(tmp_path, monkeypatch, tried):
    from cola_nbdev.prediction import fine_tune
    corpus, config = faults.small()
    with pytest.raises(checkpoints.Stopped, match="stopped in epoch 3 of 3 and saved in"): interrupted(lambda: fine_tune(corpus, config, tmp_path/"last", progress=False), 27)
    monkeypatch.setattr("cola_nbdev.checkpoints.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(checkpoints.Stopped, match="stopped in epoch 1 of 3; it could not be saved$"): interrupted(lambda: fine_tune(corpus, config, tmp_path/"full", progress=False), 5)
    tried("SIGTERM")

def interrupted(work, step):
    "Do some training and send SIGTERM in the middle of a step"
    real, calls = distributed.accumulate, []

    def accumulate(*arguments):
        calls.append(1)
        if len(calls) == step: signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    distributed.accumulate = accumulate
    try: return work()
    finally: distributed.accumulate = real

def test_two_writers(tmp_path, tried):
    first = start(tmp_path)
    until_checkpoint(tmp_path, first)
    second = start(tmp_path, "--resume")
    assert f"run is being written by process {first.pid}; wait until it is done, or choose another --out" in second.communicate(timeout=60)[1]
    assert second.returncode == 2 and first.poll() is None
    first.kill()
    first.communicate()
    tried("two writers")

def test_the_stop_button_of_a_notebook(tmp_path, tried):
    "A real kernel: the cell ends without an error, and the next one can use the network"
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(kernel_name="python3", env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=str(tmp_path))
    def execute(code, after=None):
        printed, request = [], client.execute(code)
        if after: after()
        reply = client.get_shell_msg(timeout=120)
        while reply["parent_header"].get("msg_id") != request: reply = client.get_shell_msg(timeout=120)
        while (message := client.get_iopub_msg(timeout=30))["msg_type"] != "status" or message["content"]["execution_state"] != "idle" or message["parent_header"].get("msg_id") != request:
            if message["msg_type"] == "stream": printed.append(message["content"]["text"])
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)
    def press_stop():
        until = time.monotonic() + 60
        while not list((tmp_path/"kept").glob("step-*")) and time.monotonic() < until: time.sleep(.05)
        manager.interrupt_kernel()
    try:
        execute("import signal; from cola_nbdev.data import load_corpus; from cola_nbdev.settings import Config; from cola_nbdev.training import train; from cola_nbdev.packing import predict_logits; before = signal.getsignal(signal.SIGINT)")
        execute("run = train(load_corpus('demo').train, Config(model='tiny', epochs=1000, checkpoint_minutes=.001), progress=False, folder='kept')", press_stop)
        said = execute("print(run.stopped == signal.SIGINT, signal.getsignal(signal.SIGINT) == before, predict_logits(run.model, run.tokenizer, ['He left.']).shape)")
        assert said == "True True (1, 2)\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    tried("the stop button of a notebook")

# Disks

def test_a_full_disk(tmp_path, undisturbed, tried):
    for most_bytes in (20_000, 100_000, 200_000):
        folder = tmp_path/str(most_bytes)
        code, printed = faults.run(folder, most_bytes=most_bytes), (folder/"printed.txt").read_text()
        assert code == (0 if (folder/"run").exists() else 2), "the results are written where there is room for them"
        assert printed.count("training continues") == 1 and "Traceback" not in printed
        ends_as_undisturbed(folder, undisturbed)
        tried("a full disk")

def test_a_folder_that_cannot_be_written_is_found_before_training(tmp_path, monkeypatch, capsys, tried):
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("training began"))
    for out in ("/proc/no/run", "/dev/null/run"):
        with pytest.raises(SystemExit) as stopped: cli.main(["train", "--model", "tiny", "--out", out])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and f"{out} can't be written" in error and len(error.strip().splitlines()) == 1
        tried("an output that cannot be written")

def test_a_flipped_byte_in_each_file(tmp_path, undisturbed, tried):
    assert faults.run(tmp_path/"first", stop_after=14) == 143
    saved = tmp_path/"first"/"run.unfinished"/"checkpoints"
    files = [path.name for path in sorted(latest_checkpoint(saved).iterdir())]
    assert set(files) == {"best.safetensors", "facts.json", "loop.safetensors", "manifest.json", "model.safetensors", "optimizer.safetensors"}
    for name in files if LONG else files[2:4]:
        shutil.copytree(tmp_path/"first", tmp_path/name)
        newest = checkpoints.checkpoints(tmp_path/name/"run.unfinished"/"checkpoints")[0]
        content = bytearray((newest/name).read_bytes())
        content[len(content) // 2] ^= 1
        (newest/name).write_bytes(content)
        assert find_corruption(newest)
        ends_as_undisturbed(tmp_path/name, undisturbed)
        assert f"skipping the checkpoint {newest.name}: " in (tmp_path/name/"printed.txt").read_text()
        tried("a flipped byte in a file of the newest checkpoint")

def test_stale_staging_folders_are_cleared(tmp_path, undisturbed, tried):
    assert faults.run(tmp_path, stop_after=5) == 143
    stale = tmp_path/"run.unfinished"/"checkpoints"/f"{checkpoints.STAGING}left"
    stale.mkdir()
    (stale/"model.safetensors").write_bytes(b"half")
    assert faults.run(tmp_path, stop_after=8) == 143 and not stale.exists()
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("a stale staging folder")

def test_the_clock_moves_backwards(tmp_path, undisturbed, tried):
    assert faults.run(tmp_path, stop_after=5) == 143
    saved = checkpoints.checkpoints(tmp_path/"run.unfinished"/"checkpoints")
    for age, path in enumerate(saved): os.utime(path, (age * 1e8, age * 1e8)) # the newest seems the oldest
    assert latest_checkpoint(saved[0].parent) == saved[0] and [path.name[-2:] for path in saved] == ["05", "04"]
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("the clock moved backwards")

# Losses and memory

@pytest.fixture
def training_in(tmp_path):
    "Train in this process: the corpus, the settings, where the checkpoints go"
    corpus, config = faults.small()
    return lambda **settings: train(corpus.train, replace(config, **settings), progress=False, folder=tmp_path/"checkpoints")

@pytest.mark.parametrize("step", [1, 12, 27] if LONG else [12])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_loss_that_is_no_number_is_named_and_never_saved(tmp_path, monkeypatch, training_in, tried, step, value):
    import torch
    real, calls = distributed.accumulate, []

    def injecting(*arguments):
        calls.append(1)
        loss, chunks = real(*arguments)
        return (loss * value if len(calls) == step else loss), chunks

    monkeypatch.setattr(distributed, "accumulate", injecting)
    with pytest.raises(ColaError, match=rf"the loss became {value} at step {step}; lower learning_rate"): training_in()
    newest = latest_checkpoint(tmp_path/"checkpoints")
    assert (newest is None) == (step == 1)
    if newest:
        assert int(newest.name[5:]) == step - 1
        assert all(torch.isfinite(values).all() for values in checkpoints.read_checkpoint(newest)[0]["model"].values())
    tried("NaN or infinity injected")

def test_a_learning_rate_of_1000(training_in, tried):
    with pytest.raises(ColaError, match=r"the loss (ran away|became).*lower learning_rate \(it is 1000\)"): training_in(learning_rate=1e3)
    tried("a learning rate of 1000")

@pytest.mark.parametrize("times", [1, 2, 999], ids=["once", "twice", "always"])
def test_out_of_memory(monkeypatch, training_in, capsys, tried, times):
    import torch
    left, real = [times], packing.Packed.forward
    def forward(self, *arguments, **strip):
        if self.training and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, *arguments, **strip)
    monkeypatch.setattr(packing.Packed, "forward", forward)
    corpus, config = faults.small()
    go = lambda: train(corpus.train, replace(config, batch_size=16, epochs=1))
    if times == 999:
        with pytest.raises(ColaError, match="a single sentence does not fit into memory; lower max_length or take a smaller model"): go()
    else:
        assert len(go().history) == 1
        told = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
        assert told == [f"out of memory: every batch of 16 is now split into {2**times} chunks, with the same result"]
    tried("out of memory")

# Downloads: more than test_bad_input.py has

class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow.zip":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"PK")
            time.sleep(3)
        elif self.path == "/moved.zip":
            self.send_response(302)
            self.send_header("Location", "/login")
            self.end_headers()
        elif self.path == "/linked.zip": self.answer(self.server.linked)
        else: self.answer(b"<html>Please log in</html>")
    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *arguments): pass

@pytest.mark.parametrize("name, message", [("slow.zip", "cannot download CoLA from .*timed out"), ("moved.zip", "damaged or not a zip file"), ("linked.zip", "wrong checksum")])
def test_a_download_goes_wrong(tmp_path, monkeypatch, tried, name, message):
    import pooch
    patient = pooch.HTTPDownloader
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **options: patient(**options | {"timeout": 1}))
    archive = tmp_path/"made.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for file, _ in data.COLA_FILES.values():
            link = zipfile.ZipInfo(f"cola_public/raw/{file}")
            link.external_attr = 0o120777 << 16 # a symbolic link
            made.writestr(link, "/etc/passwd")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.linked = archive.read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ColaError, match=message): data.fetch_cola(tmp_path/"cola", f"http://127.0.0.1:{server.server_port}/{name}")
    server.shutdown()
    assert not (tmp_path/"cola").exists()
    tried("a download that is slow, redirected, or holds links")

# Models

@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "A folder with a tiny fine-tuned model"
    from cola_nbdev.prediction import save_judge
    corpus, config = faults.small()
    return save_judge(train(corpus.train, replace(config, epochs=1), progress=False), tmp_path_factory.mktemp("saved")/"model")

def change_json(path, **facts): path.write_text(json.dumps(json.loads(path.read_text()) | facts))

def change_weights(path, change):
    from safetensors.torch import load_file, save_file
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})

def larger_vocabulary(folder):
    tokenizer = json.loads((folder/"tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f"new{number}": len(vocabulary) + number for number in range(50)}
    (folder/"tokenizer.json").write_text(json.dumps(tokenizer))

BROKEN = {
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "has no tokenizer"),
    "a truncated safetensors": (lambda folder: os.truncate(folder/"model.safetensors", 2000), "cannot load the model"),
    "an empty safetensors": (lambda folder: os.truncate(folder/"model.safetensors", 0), "cannot load the model"),
    "only a pickle": (lambda folder: (folder/"model.safetensors").rename(folder/"pytorch_model.bin"), "cannot load the model"),
    "a vocabulary larger than the embeddings": (larger_vocabulary, "they do not belong together"),
    "three labels": (lambda folder: change_weights(folder/"model.safetensors", lambda tensors: tensors.update({name: tensors[name].repeat_interleave(2, 0)[:3] for name in ("classifier.weight", "classifier.bias")})), "cannot load the model"),
    "missing weights": (lambda folder: change_weights(folder/"model.safetensors", lambda tensors: tensors.pop("classifier.weight")), "has no trained head"),
    "a missing layer": (lambda folder: change_weights(folder/"model.safetensors", lambda tensors: [tensors.pop(name) for name in list(tensors) if "layer.1." in name]), "has no trained head"),
    "a config that is no JSON": (lambda folder: (folder/"config.json").write_text("{"), "cannot load the model"),
    "a config of an unknown kind": (lambda folder: change_json(folder/"config.json", model_type="nothing"), "cannot load the model"),
}

@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_one_line(tmp_path, saved, capsys, tried, name):
    shutil.copytree(saved, tmp_path/"model")
    change, message = BROKEN[name]
    change(tmp_path/"model")
    with pytest.raises(SystemExit) as stopped: cli.main(["predict", str(tmp_path/"model"), "He left."])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and len(error.strip().splitlines()) == 1 and message in error, error
    tried("a broken model folder")

def test_weights_that_nobody_asked_for_do_no_harm(tmp_path, saved, tried):
    import torch

    from cola_nbdev.prediction import Judge
    shutil.copytree(saved, tmp_path/"model")
    change_weights(tmp_path/"model/model.safetensors", lambda tensors: tensors.update(more=torch.ones(3)))
    assert Judge(tmp_path/"model")("He left.").probability[0] == pytest.approx(Judge(saved)("He left.").probability[0], abs=1e-6)
    tried("a broken model folder")
