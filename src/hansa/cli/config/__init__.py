"""What a run's TOML file says: its keys (`schema`), how they are checked (`checking`), where it is kept (`files`)."""

from hansa.cli.config.checking import ConfigError
from hansa.cli.config.files import config_file, differences, plain, read_config, restore_config, stored
from hansa.cli.config.schema import RunConfig

__all__ = ["ConfigError", "RunConfig", "config_file", "differences", "plain", "read_config", "restore_config", "stored"]
