"""How `make lab` opens the notebooks. Nothing is written into your ~/.jupyter for it, and your other projects keep their ways.

Saving cleans: the file is what nbdev_clean would write, so that a diff shows what somebody changed, and not what was run when.
The kernel is the one of this environment, whatever else on this machine goes by the name of python3.
"""
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbdev.clean import clean_nb
from nbdev.config import get_config as nbdev_config # Jupyter has a get_config of its own here
from traitlets import default

ROOT = Path(__file__).resolve().parent

def clean(model, # What is about to be saved, changed in place
          **_):  # Its path, the contents manager: every notebook is cleaned alike
    "nbdev_clean, before a save. The mark `trusted` stays: by it Jupyter signs what was run here, and it does not write it into the file"
    if model["type"] != "notebook" or model["content"]["nbformat"] != 4: return
    settings = nbdev_config(path=ROOT)
    kept, kept_in_cells = (settings.get(f"allowed_{part}metadata_keys").split() for part in ("", "cell_"))
    clean_nb(model["content"], settings.clear_all, kept, [*kept_in_cells, "trusted"], settings.clean_ids)

class CleanFiles(AsyncLargeFileManager):
    "Jupyter's own way with files, and `clean` before a save; should it ever fail, the notebook is saved as it is and the log says so"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_pre_save_hook(clean)

class OwnKernel(KernelSpecManager):
    "Offers the kernel that is installed beside JupyterLab, and no other"

    @default("kernel_dirs")
    def beside(self): return [str(Path(sys.prefix)/"share"/"jupyter"/"kernels")]

def without_news(handler, # Of the request
                 page):   # What the page is told
    "JupyterLab would ask whether it may fetch news: here nothing is asked of the network"
    page["disabledExtensions"].append("@jupyterlab/apputils-extension:announcements")
    return page

c = get_config() # noqa: F821
c.ServerApp.contents_manager_class = CleanFiles
c.ServerApp.kernel_spec_manager_class = OwnKernel
c.ServerApp.tornado_settings = {"page_config_hook": without_news}
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.KernelManager.transport_encryption = "auto" # what goes to the kernel and back is for nobody else on this machine
