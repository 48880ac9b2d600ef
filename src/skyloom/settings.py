"""Kedro settings."""

import os
from pathlib import PurePath

from kedro.config import OmegaConfigLoader

from skyloom.compute import quieten_tensorflow
from skyloom.hooks import ParameterHooks, RejectionHooks, ResultHooks

# Before TensorFlow and MLflow are imported: a terminal shows what this project has to say.
quieten_tensorflow()
for name, value in {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(name, value)

HOOKS = (ParameterHooks(), RejectionHooks(), ResultHooks())
CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**"]},
    # An environment names only what differs.
    "merge_strategy": {"parameters": "soft"},
    # ${stem:/path/to/list.txt} is list.
    # ${path:~/spectra} is below the home folder, and 2020 a name; nothing stays nothing.
    # ${prefixed:_,name} is _name, or nothing where there is no name.
    "custom_resolvers": {
        "path": lambda path: None if path is None else os.path.expanduser(str(path)),
        "prefixed": lambda prefix, name: f"{prefix}{name}" if name else "",
        "stem": lambda path: PurePath(str(path)).stem,
    },
}
