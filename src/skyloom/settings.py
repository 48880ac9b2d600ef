"""Kedro settings."""

import os
from pathlib import PurePath

from kedro.config import OmegaConfigLoader

from skyloom.hooks import ParameterHooks, ResultHooks

# TensorFlow announces the absence of a GPU at every start; must be set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HOOKS = (ParameterHooks(), ResultHooks())
CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**"]},
    # An environment names only what differs.
    "merge_strategy": {"parameters": "soft"},
    # ${stem:/path/to/list.txt} is list.
    # ${prefixed:_,name} is _name, or nothing where there is no name.
    "custom_resolvers": {
        "prefixed": lambda prefix, name: f"{prefix}{name}" if name else "",
        "stem": lambda path: PurePath(path).stem,
    },
}
