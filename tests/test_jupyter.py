"""JupyterLab as `make lab` starts it: a notebook runs from top to bottom in the kernel of this
environment, and what is saved is clean.

The server is a real one, on 127.0.0.1, over a copy of the notebooks. Its user is unlucky: another
kernel goes by the name of python3, and another project has left its own hook."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import nbformat
import pytest
import websocket
from execute import is_run, machine_paths
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "jupyter_lab_config.py"
NAME = "01_reading.ipynb"  # needs neither torch nor a plot: it runs in a second

pytestmark = pytest.mark.xdist_group("jupyter")  # one server for all of them

OTHER_KERNEL = json.dumps(
    {"argv": ["false"], "display_name": "somebody else's", "language": "python"}
)
OTHER_HOOK = (
    "def spoil(model, **_): model['content']['metadata']['from_another_hook'] = True\n"
    "c.ContentsManager.pre_save_hook = spoil\n"
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "(a client of the server, its address, the folder it serves)"
    home, port, token = tmp_path_factory.mktemp("lab"), free_port(), secrets.token_hex(16)
    folder = home / "nbs"
    folder.mkdir()
    shutil.copy(ROOT / "nbs" / NAME, folder)
    for data in ("data", "elsewhere"):
        (home / data / "kernels" / "python3").mkdir(parents=True)
        (home / data / "kernels" / "python3" / "kernel.json").write_text(OTHER_KERNEL)
    (home / "config").mkdir()
    (home / "config" / "jupyter_server_config.py").write_text(OTHER_HOOK)
    environment = {
        name: value for name, value in os.environ.items() if name != "IN_TEST"
    }  # what the notebooks' tests leave behind
    environment |= {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_PATH": str(home / "elsewhere"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "JUPYTER_TOKEN": token,
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--config={CONFIG}",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--port-retries=0",
    ]
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address, headers = f"127.0.0.1:{port}", {"Authorization": f"token {token}"}
    try:
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=60) as client:
            for _ in range(600):
                assert server.poll() is None, (home / "log").read_text()
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/api/status").status_code == 200:
                        break
                time.sleep(0.1)
            else:
                pytest.fail(f"JupyterLab does not answer:\n{(home / 'log').read_text()}")
            yield client, address, folder
            for session in client.get("/api/sessions").json():
                client.delete(f"/api/sessions/{session['id']}")  # its kernel ends with it
            client.post("/api/shutdown")
            server.wait(30)
    finally:
        server.terminate()  # ends the kernels too
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()  # a kernel ends when it has lost its server


def execute(channels, code):
    "Run code in the kernel, and return what a cell would show; an error is one of its outputs"
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": "test",
        "username": "",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    channels.send(
        json.dumps(
            {
                "channel": "shell",
                "header": header,
                "parent_header": {},
                "metadata": {},
                "content": content,
            }
        )
    )
    outputs = []
    while True:
        message = json.loads(channels.recv())
        if (
            message["parent_header"].get("msg_id") != header["msg_id"]
            or message["channel"] != "iopub"
        ):
            continue
        if message["msg_type"] in ("stream", "display_data", "execute_result", "error"):
            outputs.append(nbformat.v4.output_from_msg(message))
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return outputs


def cleaned(path):
    "What nbdev_clean makes of a file"
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from nbdev.clean import nbdev_clean; nbdev_clean.__wrapped__(sys.argv[1])",
            path,
        ],
        cwd=ROOT,
        check=True,
    )
    return path.read_text(encoding="utf-8")


def soiled(notebook):
    "As JupyterLab hands a notebook over after a working day"
    notebook.metadata.update(
        kernelspec={
            "name": "python3",
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
        },
        language_info={"name": "python", "version": "3.99"},
        toc={"base": 1},
    )
    for number, cell in enumerate(notebook.cells, 1):
        cell.metadata.update(
            collapsed=True, tags=["mine"], execution={"iopub.execute_input": "2026-01-01"}
        )
        if cell.cell_type == "code":
            cell.metadata["trusted"] = True
            cell.execution_count = number
    return notebook


def test_a_notebook_runs_in_our_kernel_and_is_saved_clean(lab, tmp_path):
    client, address, folder = lab
    assert list(client.get("/api/kernelspecs").json()["kernelspecs"]) == ["python3"], (
        "only the kernel of this environment is offered"
    )
    session = (
        client.post(
            "/api/sessions",
            json={"path": NAME, "name": NAME, "type": "notebook", "kernel": {"name": "python3"}},
        )
        .raise_for_status()
        .json()
    )
    notebook = nbformat.from_dict(
        client.get(f"/api/contents/{NAME}").raise_for_status().json()["content"]
    )
    channels = websocket.create_connection(
        f"ws://{address}/api/kernels/{session['kernel']['id']}/channels",
        header=[f"Authorization: {client.headers['Authorization']}"],
        timeout=60,
    )
    with contextlib.closing(channels):
        python = execute(channels, "import sys; print(sys.executable, sys.prefix, sep='\\n')")[
            0
        ].text.split()
        assert [os.path.realpath(python[0]), python[1]] == [
            os.path.realpath(sys.executable),
            sys.prefix,
        ]
        for cell in notebook.cells:
            if not is_run(cell, {"notest", "slow"}):
                continue
            cell.outputs = execute(channels, cell.source)
            assert not any(output.output_type == "error" for output in cell.outputs), (
                f"{cell.source}\n{cell.outputs}"
            )
        added = execute(
            channels, "from IPython.display import HTML\nHTML('<b>bold</b>')"
        )  # something that Jupyter must trust to show
    notebook.cells.append(
        nbformat.v4.new_code_cell("HTML('<b>bold</b>')", outputs=added, id="bold")
    )
    assert any(cell.get("outputs") for cell in notebook.cells[:-1])
    client.put(
        f"/api/contents/{NAME}",
        json={"type": "notebook", "format": "json", "content": soiled(notebook)},
    ).raise_for_status()
    saved = (folder / NAME).read_text(encoding="utf-8")
    assert not any(
        word in saved
        for word in ("from_another_hook", "collapsed", "trusted", "3.99", "ipykernel", "iopub")
    )
    shutil.copy(folder / NAME, tmp_path / NAME)
    assert saved == cleaned(tmp_path / NAME)
    assert not list(machine_paths(nbformat.reads(saved, as_version=4)))
    opened = client.get(f"/api/contents/{NAME}").json()["content"]
    assert all(
        cell["metadata"]["trusted"] for cell in opened["cells"] if cell["cell_type"] == "code"
    ), "what was run here is shown in full when it is opened again"


def test_a_notebook_from_elsewhere_is_not_trusted_because_it_was_saved(lab):
    client, _, _ = lab
    output = nbformat.v4.new_output("display_data", {"text/html": "<script>1</script>"})
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("1", outputs=[output], metadata={"trusted": False})]
    )
    client.put(
        "/api/contents/stranger.ipynb",
        json={"type": "notebook", "format": "json", "content": notebook},
    ).raise_for_status()
    assert not client.get("/api/contents/stranger.ipynb").json()["content"]["cells"][0]["metadata"][
        "trusted"
    ]


def test_make_lab_starts_what_was_tested():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"jupyter-lab --config=../{CONFIG.name}" in makefile.split("\nlab: ")[1].split("\n\n")[0]


def test_pictures_are_shown_after_a_report_was_drawn(monkeypatch):
    "The report's fonts are for the report: what Jupyter sets when it draws first stays"
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pytest runs where nothing is shown
    rows = "split='dev', sentence='He left.', sentence_source='', label=[0, 1], predicted=[0, 1]"
    cells = [
        "import pandas as pd\nfrom cola_nbdev.evaluation import Report",
        f"figures = Report(pd.DataFrame(dict({rows}, logit=0))).figures()",
        "import matplotlib.pyplot as plt; axes = plt.figure().gca()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[2].outputs)
