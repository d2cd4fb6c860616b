"""How `make lab` opens the notebooks. Nothing is written into your ~/.jupyter for it.

Saving cleans: the file is what nbdev_clean would write, so that a diff shows what someone changed,
and not what was run when. The kernel is the one of this environment, whatever else on this machine
is called python3.
"""
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbdev.clean import clean_nb
from nbdev.config import get_config as nbdev_config  # Jupyter has a get_config of its own here
from traitlets import default

ROOT = Path(__file__).resolve().parent

def clean(model,  # what is about to be saved, changed in place
          **_,    # its path, the contents manager: every notebook is cleaned alike
         ):
    "nbdev_clean, before a save; `trusted` stays, Jupyter signs by it and doesn't write it"
    if model["type"] != "notebook" or model["content"]["nbformat"] != 4: return
    settings = nbdev_config(path=ROOT)
    kept = settings.get("allowed_metadata_keys").split()
    kept_in_cells = [*settings.get("allowed_cell_metadata_keys").split(), "trusted"]
    clean_nb(model["content"], settings.clear_all, kept, kept_in_cells, settings.clean_ids)

class CleanFiles(AsyncLargeFileManager):
    "Jupyter's own way with files, and `clean` before a save (if it fails, the log says so)"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_pre_save_hook(clean)

class OwnKernel(KernelSpecManager):
    "Offers the kernel that is installed beside JupyterLab, and no other"

    @default("kernel_dirs")
    def beside(self): return [str(Path(sys.prefix)/"share"/"jupyter"/"kernels")]

def without_news(handler,  # of the request
                 page,     # what the page is told
                ):
    "JupyterLab would ask whether it may fetch news: here nothing is asked of the network"
    page["disabledExtensions"].append("@jupyterlab/apputils-extension:announcements")
    return page

c = get_config()  # noqa: F821  # Jupyter puts it there
c.ServerApp.contents_manager_class = CleanFiles
c.ServerApp.kernel_spec_manager_class = OwnKernel
c.ServerApp.tornado_settings = {"page_config_hook": without_news}
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
# what goes to the kernel and back is for no one else on this machine
c.KernelManager.transport_encryption = "auto"
