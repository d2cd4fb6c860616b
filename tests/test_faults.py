"""What can go wrong with a run, done on purpose.

`make test` tries one or two of each; `make faults` tries many and prints a table. Every test says
how many faults it tried; one that was not survived fails it.
"""
import functools
import http.server
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import faults
import pytest

from cola_nbdev import checkpoints, cli, data, distributed, packing, training
from cola_nbdev.basics import ColaError
from cola_nbdev.checkpoints import find_corruption, latest_checkpoint, save_checkpoint
from cola_nbdev.training import train

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.xdist_group("faults")  # they share the undisturbed run

def saved_in(folder): return folder/"run.unfinished"/"checkpoints"

def printed(folder): return (folder/"printed.txt").read_text()

@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "What the run gives when nobody disturbs it, its seconds, and how many calls may kill it"
    folder = tmp_path_factory.mktemp("undisturbed")
    faults.run(folder)  # the fork server comes up
    shutil.rmtree(folder)
    started = time.monotonic()
    assert faults.run(folder) == 0, printed(folder)
    seconds = time.monotonic() - started
    return faults.result(folder), seconds, int((folder/"calls.txt").read_text())

def ends_as_undisturbed(folder, undisturbed):
    assert faults.run(folder) == 0, printed(folder)
    assert faults.result(folder) == undisturbed[0]
    assert "Traceback" not in printed(folder)
    expected = ("run", "promised.txt", "printed.txt", "calls.txt")
    left = [path.name for path in folder.iterdir() if path.name not in expected]
    assert not left, f"left behind: {left}"

def nothing_lost(folder):
    "Every checkpoint that was promised, except those rotated away, is there and whole"
    if (folder/"run").exists(): return
    whole, promised = faults.steps(folder)
    assert not promised or (whole and whole[0] >= promised[-1]), \
        f"promised {promised}, whole {whole}"

# kill -9

@pytest.mark.parametrize("number", range(60 if LONG else 1))
def test_killed_while_a_checkpoint_is_written(tmp_path, undisturbed, tried, number):
    at = random.Random(number).randint(1, undisturbed[2])
    assert faults.run(tmp_path, die_at=at) == -signal.SIGKILL
    nothing_lost(tmp_path)
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("kill -9 inside the writing, rotation or publishing of checkpoints")

@pytest.mark.parametrize("number", range(60 if LONG else 1))
def test_killed_at_a_random_moment(tmp_path, undisturbed, tried, number):
    faults.run(tmp_path, wait=random.Random(1000 + number).uniform(.1, .95) * undisturbed[1])
    nothing_lost(tmp_path)
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("kill -9 at a random moment")

def test_killed_again_and_again(tmp_path, undisturbed, tried):
    draws = random.Random(7)
    for _ in range(12 if LONG else 2):
        if faults.run(tmp_path, die_at=draws.randint(30, 150)) == 0: break
        nothing_lost(tmp_path)
        tried("kill -9 again and again in one run")
    ends_as_undisturbed(tmp_path, undisturbed)

# in the middle of an epoch, between two, at the very end
@pytest.mark.parametrize("step", range(1, 28) if LONG else (5, 9, 27))
def test_it_resumes_wherever_it_stopped(tmp_path, undisturbed, tried, step):
    assert faults.run(tmp_path, stop_after=step) == 143
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("stopped after a given step")

def test_files_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    """The order of the calls

    A killed process loses nothing that the system holds; a power cut does."""
    import torch
    order, fsync, rename = [], os.fsync, os.rename

    def noting_fsync(descriptor):
        order.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def noting_rename(source, target, **options):
        order.append(("rename", Path(target)))
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    target = save_checkpoint(tmp_path/"checkpoints", 1, {"model": {"a": torch.ones(2)}}, {})
    renamed = order.index(("rename", target))
    synced = [path.name for what, path in order[:renamed] if what == "fsync"]
    assert set(synced) >= {"model.safetensors", "facts.json", "manifest.json"}, \
        "a file may be empty after a power cut"
    assert synced[-1].startswith(checkpoints.STAGING), \
        "the folder's list of names may be empty after a power cut"
    assert ("fsync", tmp_path/"checkpoints") in order[renamed:], \
        "the new name may be gone after a power cut"

def test_an_old_checkpoint_is_removed_only_when_the_new_one_is_whole(tmp_path, monkeypatch):
    import torch
    save = functools.partial(save_checkpoint, tmp_path, tensors={"model": {"a": torch.ones(2)}},
                             facts={}, keep=1)
    save(1)
    commit = checkpoints.commit

    def damaging(staging, target):
        commit(staging, target)
        (target/"model.safetensors").write_bytes(b"")

    monkeypatch.setattr(checkpoints, "commit", damaging)
    with pytest.raises(ColaError, match="model.safetensors is damaged, just after it was written"):
        save(2)
    newest = latest_checkpoint(tmp_path)
    assert newest and newest.name == "step-00000001"

# Signals, in the real command

def start(folder, *more):
    command = [sys.executable, "-c", "from cola_nbdev.cli import main; main()", "train",
               "--model", "tiny", "--epochs", "400", "--out", "run",
               "--checkpoint-minutes", "0.01", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                                "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def until_checkpoint(folder, process):
    while process.poll() is None and not list(saved_in(folder).glob("step-*")): time.sleep(.05)

def refusal(folder, *more):
    "What the command says before it exits with 2"
    process = start(folder, *more)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    return error

@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
                         ids=["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_ends(tmp_path, tried, number, code):
    process = start(tmp_path)
    until_checkpoint(tmp_path, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    last = error.strip().splitlines()[-1]
    assert last.startswith("cola: stopped in epoch") and "continue with --resume" in error
    assert "Traceback" not in error
    assert latest_checkpoint(saved_in(tmp_path))
    tried(number.name)
    if number == signal.SIGINT and not LONG: return  # refused as after the other signal
    assert ("holds an unfinished run; add --resume to continue it, or --overwrite to start over"
            in refusal(tmp_path))
    assert ("belongs to another run: batch_size 32 (now 16), seed 42 (now 7)"
            in refusal(tmp_path, "--resume", "--seed", "7", "--batch-size", "16"))

def test_a_second_interrupt_quits_at_once(tmp_path, tried):
    process = start(tmp_path)
    until_checkpoint(tmp_path, process)
    # both arrive while it sleeps; without the pause the first might already have been obeyed
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGCONT, signal.SIGINT):
        process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    tried("SIGINT twice")

def seed_of(run): return json.loads((run/"metrics.json").read_text())["config"]["seed"]

def test_an_interrupted_overwrite_continues_with_resume_alone(tmp_path, tried):
    from cola_nbdev.prediction import fine_tune
    corpus, config = faults.small()
    run = tmp_path/"run"
    fine_tune(corpus, replace(config, seed=1), run, progress=False)
    again = functools.partial(fine_tune, corpus, config, run, progress=False)
    with pytest.raises(checkpoints.Stopped, match="and saved in .*; continue with --resume"):
        interrupted(functools.partial(again, overwrite=True), 5)
    assert seed_of(run) == 1, "the earlier run stays until the new one is complete"
    again(resume=True)
    assert seed_of(run) == 42
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (run/"overwrites").exists()
    tried("SIGTERM")

def test_a_stop_in_the_last_step_or_without_room_says_so(tmp_path, monkeypatch, tried):
    from cola_nbdev.prediction import fine_tune
    corpus, config = faults.small()

    def stop(name, step):
        run = functools.partial(fine_tune, corpus, config, tmp_path/name, progress=False)
        interrupted(run, step)

    def no_room(*_): raise OSError(28, "No space left on device")

    with pytest.raises(checkpoints.Stopped, match="stopped in epoch 3 of 3 and saved in"):
        stop("last", 27)
    monkeypatch.setattr("cola_nbdev.checkpoints.save_file", no_room)
    message = "stopped in epoch 1 of 3; it could not be saved$"
    with pytest.raises(checkpoints.Stopped, match=message): stop("full", 5)
    tried("SIGTERM")

def interrupted(work, step):
    "Train, and send SIGTERM in the middle of a step"
    real, calls = distributed.accumulate, []

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == step: signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    with patch.object(distributed, "accumulate", interrupting): return work()

def test_two_writers(tmp_path, tried):
    first = start(tmp_path)
    until_checkpoint(tmp_path, first)
    message = (f"run is being written by process {first.pid}; wait until it is done, or choose "
               "another --out")
    assert message in refusal(tmp_path, "--resume")
    assert first.poll() is None
    first.kill()
    first.communicate()
    tried("two writers")

class Kernel:
    "A kernel of Jupyter"

    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=environment,
                                                     cwd=str(folder))

    def execute(self, code, after=None):
        "Run a cell, do something meanwhile; what the cell printed, if it ended without an error"
        request = self.client.execute(code)
        if after: after()
        reply = self.client.get_shell_msg(timeout=120)
        while reply["parent_header"].get("msg_id") != request:
            reply = self.client.get_shell_msg(timeout=120)
        text = "".join(self.printed(request))
        assert reply["content"]["status"] == "ok", reply["content"]
        return text

    def printed(self, request):
        "What a cell prints, until it is done"
        while True:
            message = self.client.get_iopub_msg(timeout=30)
            content, ours = message["content"], message["parent_header"].get("msg_id") == request
            if message["msg_type"] == "stream": yield content["text"]
            if ours and message["msg_type"] == "status" and content["execution_state"] == "idle":
                return

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

CELLS = ("""
import signal
from cola_nbdev.data import load_corpus
from cola_nbdev.packing import predict_logits
from cola_nbdev.settings import Config
from cola_nbdev.training import train
before = signal.getsignal(signal.SIGINT)
""", """
config = Config(model='tiny', epochs=1000, checkpoint_minutes=.001)
run = train(load_corpus('demo').train, config, progress=False, folder='kept')
""", """
print(run.stopped == signal.SIGINT, signal.getsignal(signal.SIGINT) == before,
      predict_logits(run.model, run.tokenizer, ['He left.']).shape)
""")

def test_the_stop_button_of_a_notebook(tmp_path, tried):
    "A real kernel: the cell ends without an error, and the next one can use the model"
    kernel = Kernel(tmp_path)

    def press_stop():
        until = time.monotonic() + 60
        while not list((tmp_path/"kept").glob("step-*")) and time.monotonic() < until:
            time.sleep(.05)
        kernel.manager.interrupt_kernel()

    try:
        kernel.execute(CELLS[0])
        kernel.execute(CELLS[1], press_stop)
        assert kernel.execute(CELLS[2]) == "True True (1, 2)\n"
    finally: kernel.close()
    tried("the stop button of a notebook")

# Disks

@pytest.mark.parametrize("most_bytes", (20_000, 100_000, 200_000) if LONG else (20_000, 200_000))
def test_a_full_disk(tmp_path, undisturbed, tried, most_bytes):
    code = faults.run(tmp_path, most_bytes=most_bytes)
    assert code == (0 if (tmp_path/"run").exists() else 2), \
        "the results are written where there is room for them"
    assert printed(tmp_path).count("training continues") == 1
    assert "Traceback" not in printed(tmp_path)
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("a full disk")

def test_what_could_not_be_written_is_tried_again_after_another_step_only(tmp_path, monkeypatch):
    "The processes of a run must agree whether to try, and only one of them knows that it failed"
    corpus, config = faults.small()
    tried_at = []

    def no_room(folder, state, *_):
        tried_at.append(state.steps_done)
        raise ColaError("no room")

    monkeypatch.setattr(training, "save_state", no_room)
    train(corpus.train, replace(config, checkpoint_minutes=0), tmp_path, progress=False)
    assert tried_at == sorted(set(tried_at))

def exit_with_one_line(capsys, *arguments):
    "The one line that the command says before it exits with 2"
    with pytest.raises(SystemExit) as stopped: cli.main([*map(str, arguments)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and len(error.strip().splitlines()) == 1, error
    return error

def test_a_folder_that_cannot_be_written_is_found_before_training(monkeypatch, capsys, tried):
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("training began"))
    for out in ("/proc/no/run", "/dev/null/run"):
        error = exit_with_one_line(capsys, "train", "--model", "tiny", "--out", out)
        assert re.search(f"{out} (can't|cannot) be written", error)
        tried("an output that cannot be written")

def test_a_flipped_byte_in_each_file(tmp_path, undisturbed, tried):
    assert faults.run(tmp_path/"first", stop_after=14) == 143
    newest = latest_checkpoint(saved_in(tmp_path/"first"))
    assert newest
    files = [path.name for path in sorted(newest.iterdir())]
    assert files == ["best.safetensors", "facts.json", "loop.safetensors", "manifest.json",
                     "model.safetensors", "optimizer.safetensors"]
    for name in files if LONG else files[2:4]:
        shutil.copytree(tmp_path/"first", tmp_path/name)
        damaged = saved_in(tmp_path/name)/newest.name
        content = bytearray((damaged/name).read_bytes())
        content[len(content) // 2] ^= 1
        (damaged/name).write_bytes(content)
        assert find_corruption(damaged)
        ends_as_undisturbed(tmp_path/name, undisturbed)
        assert f"skipping the checkpoint {newest.name}: " in printed(tmp_path/name)
        tried("a flipped byte in a file of the newest checkpoint")

def test_stale_staging_folders_are_cleared(tmp_path, undisturbed, tried):
    assert faults.run(tmp_path, stop_after=5) == 143
    stale = saved_in(tmp_path)/f"{checkpoints.STAGING}left"
    stale.mkdir()
    (stale/"model.safetensors").write_bytes(b"half")
    assert faults.run(tmp_path, stop_after=8) == 143 and not stale.exists()
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("a stale staging folder")

def test_the_clock_moves_backwards(tmp_path, undisturbed, tried):
    assert faults.run(tmp_path, stop_after=5) == 143
    saved = checkpoints.checkpoints(saved_in(tmp_path))
    for age, path in enumerate(saved):  # the newest seems the oldest
        os.utime(path, (age * 1e8, age * 1e8))
    assert latest_checkpoint(saved[0].parent) == saved[0]
    newest, older = (int(path.name[5:]) for path in saved)
    assert newest == older + 1 >= 5
    ends_as_undisturbed(tmp_path, undisturbed)
    tried("the clock moved backwards")

# Losses and memory

@pytest.fixture
def training_in(tmp_path):
    "Train in this process, with checkpoints: a function of settings"
    corpus, config = faults.small()

    def run(**settings):
        return train(corpus.train, replace(config, **settings), progress=False,
                     folder=tmp_path/"checkpoints")

    return run

@pytest.mark.parametrize("step", [1, 12, 27] if LONG else [12])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_loss_that_is_no_number_is_named_and_never_saved(tmp_path, monkeypatch, training_in,
                                                           tried, step, value):
    import torch
    real, calls = distributed.accumulate, []

    def injecting(*arguments):
        calls.append(1)
        loss, chunks = real(*arguments)
        return (loss * value if len(calls) == step else loss), chunks

    monkeypatch.setattr(distributed, "accumulate", injecting)
    message = rf"the loss became {value} at step {step}; lower learning_rate"
    with pytest.raises(ColaError, match=message): training_in()
    newest = latest_checkpoint(tmp_path/"checkpoints")
    assert (newest is None) == (step == 1)
    if newest:
        assert int(newest.name[5:]) == step - 1
        weights = checkpoints.read_checkpoint(newest)[0]["model"]
        assert all(torch.isfinite(values).all() for values in weights.values())
    tried("NaN or infinity injected")

def test_a_learning_rate_of_1000(training_in, tried):
    message = r"the loss (ran away|became).*lower learning_rate \(it is 1000\)"
    with pytest.raises(ColaError, match=message): training_in(learning_rate=1e3)
    tried("a learning rate of 1000")

@pytest.mark.parametrize("times", [1, 2, 999], ids=["once", "twice", "always"])
def test_out_of_memory(monkeypatch, capsys, tried, times):
    import torch
    left, real = [times], packing.Packed.forward

    def forward(self, *arguments, **batch):
        if self.training and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, *arguments, **batch)

    monkeypatch.setattr(packing.Packed, "forward", forward)
    corpus, config = faults.small()
    run = functools.partial(train, corpus.train, replace(config, batch_size=16, epochs=1))
    if times == 999:
        message = ("a single sentence does not fit into memory; lower max_length or take a smaller "
                   "model")
        with pytest.raises(ColaError, match=message): run()
    else:
        assert len(run().history) == 1
        told = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
        assert told == [f"out of memory: every batch of 16 is now split into {2**times} chunks, "
                        "with the same result"]
    tried("out of memory")

# Downloads: more than test_bad_input.py has

class Archives(http.server.ThreadingHTTPServer):
    "Serves archives that are slow, redirected, or hold links"
    linked = b""  # a zip file with symbolic links

class Handler(http.server.BaseHTTPRequestHandler):
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
        elif self.path == "/linked.zip":
            assert isinstance(self.server, Archives)
            self.answer(self.server.linked)
        else: self.answer(b"<html>Please log in</html>")

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_): pass

def archive_of_links(path):
    "The bytes of a zip file whose TSVs are symbolic links"
    with zipfile.ZipFile(path, "w") as made:
        for file, _ in data.COLA_FILES.values():
            link = zipfile.ZipInfo(f"cola_public/raw/{file}")
            link.external_attr = 0o120777 << 16  # a symbolic link
            made.writestr(link, "/etc/passwd")
    return path.read_bytes()

@pytest.mark.parametrize("name, message", [
    ("slow.zip", "cannot download CoLA from .*timed out"),
    ("moved.zip", "damaged or not the zip file"), ("linked.zip", "wrong checksum")])
def test_a_download_goes_wrong(tmp_path, monkeypatch, tried, name, message):
    import pooch
    patient = pooch.HTTPDownloader
    monkeypatch.setattr(pooch, "HTTPDownloader",
                        lambda **options: patient(**{**options, "timeout": 1}))
    server = Archives(("127.0.0.1", 0), Handler)
    server.linked = archive_of_links(tmp_path/"made.zip")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    with pytest.raises(ColaError, match=message): data.fetch_cola(tmp_path/"cola", url)
    server.shutdown()
    assert not (tmp_path/"cola").exists()
    tried("a download that is slow, redirected, or holds links")

# Models

@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "A folder with a tiny fine-tuned model"
    from cola_nbdev.prediction import save_judge
    corpus, config = faults.small()
    run = train(corpus.train, replace(config, epochs=1), progress=False)
    return save_judge(run, tmp_path_factory.mktemp("saved")/"model")

def change_json(path, **facts):
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))

def change_weights(folder, change):
    from safetensors.torch import load_file, save_file
    path = folder/"model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})

def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"): path.unlink()

def larger_vocabulary(folder):
    tokenizer = json.loads((folder/"tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f"new{number}": len(vocabulary) + number for number in range(50)}
    (folder/"tokenizer.json").write_text(json.dumps(tokenizer))

def three_labels(tensors):
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = tensors[name].repeat_interleave(2, 0)[:3]

def missing_layer(tensors):
    for name in [name for name in tensors if "layer.1." in name]: del tensors[name]

def no_head(tensors): del tensors["classifier.weight"]

BROKEN = {  # what is wrong → what breaks a folder, and what is said
    "no tokenizer": (no_tokenizer, "has no tokenizer"),
    "a truncated safetensors": (lambda folder: os.truncate(folder/"model.safetensors", 2000),
                                "cannot load the model"),
    "an empty safetensors": (lambda folder: os.truncate(folder/"model.safetensors", 0),
                             "cannot load the model"),
    "only a pickle": (lambda folder: (folder/"model.safetensors").rename(
                          folder/"pytorch_model.bin"), "cannot load the model"),
    "a vocabulary larger than the embeddings": (larger_vocabulary, "they do not belong together"),
    "three labels": (lambda folder: change_weights(folder, three_labels), "cannot load the model"),
    "missing weights": (lambda folder: change_weights(folder, no_head), "has no trained head"),
    "a missing layer": (lambda folder: change_weights(folder, missing_layer), "are missing"),
    "a config that is no JSON": (lambda folder: (folder/"config.json").write_text("{"),
                                 "config.json is damaged; get the model again"),
    "a config of an unknown kind": (lambda folder: change_json(folder/"config.json",
                                                               model_type="nothing"),
                                    "cannot load the model")}

@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_one_line(tmp_path, saved, capsys, tried, name):
    shutil.copytree(saved, tmp_path/"model")
    change, message = BROKEN[name]
    change(tmp_path/"model")
    assert message in exit_with_one_line(capsys, "predict", tmp_path/"model", "He left.")
    tried("a broken model folder")

def test_weights_that_nobody_asked_for_do_no_harm(tmp_path, saved, tried):
    import torch

    from cola_nbdev.prediction import Judge
    shutil.copytree(saved, tmp_path/"model")
    change_weights(tmp_path/"model", lambda tensors: tensors.update(more=torch.ones(3)))
    changed, before = (Judge(folder)("He left.").probability[0]
                       for folder in (tmp_path/"model", saved))
    assert changed == pytest.approx(before, abs=1e-6)
    tried("a broken model folder")
