"Hands settings.ini, where every fact about the package stands, to setuptools"
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser()
config.read("settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
name, package = settings["lib_name"], settings["lib_path"]
# Where a link of the README leads from a registry's page
files = f"{settings['git_url']}/blob/v{settings['version']}/"
readme = re.sub(r"(?<=\]\()(?!https?:|#)", files, Path("README.md").read_text(encoding="utf-8"))
suffix = "_requirements"  # `offline_requirements` becomes the extra `[offline]`, and so on
extras = [key for key in settings if key.endswith(suffix)]

setup(
    name=name,
    version=settings["version"],
    description=settings["description"],
    long_description=readme,
    long_description_content_type="text/markdown",
    keywords=settings["keywords"],
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license_expression="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Education",
        f"Intended Audience :: {settings['audience']}",
        f"Natural Language :: {settings['language']}",
        "Topic :: Text Processing :: Linguistic",
        *(f"Programming Language :: Python :: {each}" for each in ("3", "3.11", "3.12", "3.13")),
    ],
    packages=find_packages(include=[package, f"{package}.*"]),
    package_data={package: ["py.typed", "*.toml", "*.json", "*.css", "*.html",
                            "locale/*/LC_MESSAGES/*.mo"]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={key.removesuffix(suffix): settings[key].split() for key in extras},
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{name}={package}._modidx:d"],  # lets other nbdev projects link to our site
    },
)
