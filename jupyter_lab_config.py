"""How `make lab` opens the notebooks. Nothing is written into your ~/.jupyter for it, and your other projects keep their ways.

Saving cleans: the file is what nbdev_clean would write, so that a diff shows what somebody changed, and not what was run when.
The kernel is the one of this environment, whatever else on this machine goes by the name of python3.
"""
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from nbdev.clean import clean_nb
from nbdev.config import get_config as nbdev_config # Jupyter has a get_config of its own here, for `c`
from traitlets import default

ROOT = Path(__file__).resolve().parent

def clean(model, # What is about to be saved, changed in place
          **_):  # The path and the contents manager: every notebook is cleaned alike
    "nbdev_clean, before a save. The mark `trusted` stays: Jupyter signs what was run here, and leaves the mark out of the file"
    if model["type"] != "notebook" or model["content"]["nbformat"] != 4: return
    settings = nbdev_config(path=ROOT)
    kept, kept_in_cells = (settings.get(f"allowed_{kind}metadata_keys").split() for kind in ("", "cell_"))
    clean_nb(model["content"], settings.clear_all, kept, [*kept_in_cells, "trusted"], settings.clean_ids)

class OwnKernel(KernelSpecManager):
    "Offers the kernel that is installed beside JupyterLab, and no other"

    @default("kernel_dirs")
    def beside(self): return [str(Path(sys.prefix)/"share"/"jupyter"/"kernels")]

c = get_config() # noqa: F821
c.FileContentsManager.pre_save_hook = clean
c.ServerApp.kernel_spec_manager_class = OwnKernel
# Nothing is asked of the network
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
