"""Models by Hub id, from a small Hub on this machine: what is downloaded, and what is refused"""
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cola_nbdev.data import load_corpus
from cola_nbdev.prediction import save_judge
from cola_nbdev.settings import Config
from cola_nbdev.training import train

ROOT = Path(__file__).resolve().parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"

class Hub(http.server.BaseHTTPRequestHandler):
    "A Hub with one model, someone/judge"
    files: dict[str, bytes] = {}
    asked: list[str] = []  # the files that were downloaded

    def answer(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if self.path.startswith("/api/models/someone/judge"):
            if "/tree/" in self.path:
                return json.dumps([{"type": "file", "path": file, "size": len(content),
                                    "oid": hashlib.sha1(content).hexdigest()}
                                   for file, content in self.files.items()]).encode()
            siblings = [{"rfilename": file} for file in self.files]
            about = {"id": "someone/judge", "sha": COMMIT, "siblings": siblings}
            return json.dumps(about).encode()
        if not self.path.startswith("/someone/judge/resolve/"): return None
        if name in self.files: self.asked.append(name)
        return self.files.get(name)

    def do_GET(self, body=True):
        content = self.answer()
        if content is None: return self.send_error(404)
        self.send_response(200)
        headers = {"Content-Length": len(content), "Content-Type": "application/json",
                   "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        for header, value in headers.items(): self.send_header(header, str(value))
        self.end_headers()
        if body: self.wfile.write(content)

    def do_HEAD(self): self.do_GET(body=False)
    def log_message(self, *arguments): pass

@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    "The address of the Hub, and the list of the files that were downloaded"
    folder = tmp_path_factory.mktemp("hub")/"model"
    config = Config(model="tiny", epochs=1)
    save_judge(train(load_corpus("demo").train[:100], config, progress=False), folder)
    (folder/"pytorch_model.bin").write_bytes(b"a pickle")
    (folder/"modeling_judge.py").write_text("raise SystemExit('code of a model was run')")
    Hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Hub.asked
    server.shutdown()
    server.server_close()

def cola(*arguments, cwd, hub):
    "The command in a process of its own: huggingface_hub reads the address when it is imported"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0",
                                "HF_HOME": str(cwd/"cache"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", "from cola_nbdev.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True)

def test_a_model_from_the_hub_is_downloaded_once_without_code_or_pickles(hub, tmp_path):
    address, asked = hub
    first = cola("predict", "someone/judge", "He left.", cwd=tmp_path, hub=address)
    assert first.returncode == 0, first.stderr
    assert "He left." in first.stdout
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(asked)
    assert not {"pytorch_model.bin", "modeling_judge.py"} & set(asked)
    asked.clear()
    nobody = "http://127.0.0.1:9"
    again = cola("predict", "someone/judge", "He left.", cwd=tmp_path, hub=nobody)
    assert again.stdout == first.stdout and not asked

@pytest.mark.parametrize("name, address", [
    pytest.param("someone/else", None, id="unknown"),
    pytest.param("someone/judge", "http://127.0.0.1:9", id="unreachable")])
def test_a_model_that_cannot_be_loaded_is_one_line(hub, tmp_path, name, address):
    done = cola("predict", name, "He left.", cwd=tmp_path, hub=address or hub[0])
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"cola: cannot load the model '{name}': "
                                  "use minilm, mpnet, bert, tiny, a Hub id, or a")
